"""``appliance domain``, up to the resolver, which has tests of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.api.address import Domain
from appliance.box import certificates, domain
from appliance.box.domain import Wish, run
from appliance.box.layout import Layout, write_private

SBX = Domain("sbx.test", 8443)


def told(wish: Wish) -> str:
    """What the command prints."""
    said: list[str] = []
    assert run(wish, said.append) == 0
    return "\n".join(said)


@pytest.fixture
def wish(tmp_path: Path) -> Wish:
    """sbx.test:8443 at 192.0.2.7, in a directory that does not exist yet."""
    return Wish(SBX, tmp_path / "data", address="192.0.2.7")


def test_it_makes_a_certificate_and_says_how_to_use_it(wish: Wish) -> None:
    """Authority and wildcard certificate, private files, and every step with the names, paths and port that hold."""
    text, tls = told(wish), wish.data_dir / "tls"
    assert re.search(r"domain\.crt, made: for sbx\.test and \*\.sbx\.test, until 20\d\d-\d\d-\d\d;", text)
    for path in (*tls.iterdir(), tls):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert certificates.facts(tls / "ca.crt")[1] in text
    for words in (
        "--role=all --domain=sbx.test:8443 --tls-listen=0.0.0.0:8443",
        "*.sbx.test. 300 IN A 192.0.2.7",
        f"SSL_CERT_FILE={tls}/bundle.crt",
        f"NODE_EXTRA_CA_CERTS={tls}/ca.crt",
        "update-ca-certificates",
        "E2B_DOMAIN=sbx.test:8443",
    ):
        assert words in text


def test_a_second_run_changes_nothing(wish: Wish) -> None:
    """Same files, byte for byte, and it says that they were found; the port may differ."""
    told(wish)
    files = {path: path.read_bytes() for path in (wish.data_dir / "tls").iterdir()}
    assert "domain.crt, found: for" in told(replace(wish, domain=Domain("sbx.test")))
    assert {path: path.read_bytes() for path in files} == files


def test_it_renews_before_the_end(wish: Wish, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate with less than thirty days left is replaced, the authority too when its own end is near."""
    monkeypatch.setattr(certificates, "SERVER_LIFE", timedelta(days=29))
    told(wish)
    monkeypatch.undo()
    authority = (wish.data_dir / "tls/ca.crt").read_bytes()
    assert "domain.crt, made: for" in told(wish)
    assert (wish.data_dir / "tls/ca.crt").read_bytes() == authority
    monkeypatch.setattr(certificates, "AUTHORITY_LIFE", timedelta(days=29))
    (wish.data_dir / "tls/ca.key").unlink()
    told(wish)
    monkeypatch.undo()
    old = (wish.data_dir / "tls/ca.crt").read_bytes()
    assert "domain.crt, made: for" in told(wish)
    assert (wish.data_dir / "tls/ca.crt").read_bytes() != old


def test_a_running_box_keeps_the_certificate_of_its_domain(wish: Wish) -> None:
    """Another name is refused while a box serves one; the same name is fine."""
    layout = Layout(wish.data_dir)
    layout.run.mkdir(parents=True)
    write_private(layout.endpoints, json.dumps({"domain": "other.test:8443"}))
    with pytest.raises(RuntimeError, match=r"serves other\.test: stop it first, or name another directory"):
        run(wish, print)
    assert not layout.tls.exists()
    write_private(layout.endpoints, json.dumps({"domain": "sbx.test:9443"}))
    assert "made" in told(wish)


def test_a_certificate_of_ones_own_is_checked_and_not_copied(wish: Wish, tmp_path: Path) -> None:
    """The right one is named in the steps, without the authority's; nothing is written."""
    told(wish)
    cert, key = (wish.data_dir / "tls" / name for name in ("domain.crt", "domain.key"))
    own = replace(wish, tls_cert=cert, tls_key=key, data_dir=tmp_path / "other")
    text = told(own)
    assert f"--tls-cert={cert} --tls-key={key}" in text and "authority" not in text
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_used_is_named(wish: Wish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a pair, no PEM, the wrong key, the wrong name, one that has expired, no address: each with its reason."""
    monkeypatch.setattr(certificates, "SERVER_LIFE", timedelta(minutes=-1))
    told(replace(wish, data_dir=tmp_path / "expired"))
    monkeypatch.undo()
    told(wish)
    tls, past, noise = wish.data_dir / "tls", tmp_path / "expired/tls", tmp_path / "noise"
    noise.write_text("nothing")
    cert, key = tls / "domain.crt", tls / "domain.key"
    for changes, why in (
        ({"tls_cert": cert}, "--tls-cert and --tls-key belong together"),
        ({"tls_key": key}, "--tls-cert and --tls-key belong together"),
        ({"tls_cert": noise, "tls_key": key}, "--tls-cert: .*noise is no certificate in PEM"),
        ({"tls_cert": cert, "tls_key": noise}, "--tls-key: .*noise is no private key in PEM"),
        ({"tls_cert": cert, "tls_key": tls / "ca.key"}, "--tls-key: .* is not the key of"),
        ({"tls_cert": tls / "server.crt", "tls_key": tls / "server.key"}, r"sandboxes need \*\.sbx\.test"),
        ({"tls_cert": past / "domain.crt", "tls_key": past / "domain.key"}, "has expired on 20"),
        ({"address": "box"}, "--address: expected an IP address, got 'box'"),
        ({"dns_listen": "53"}, "--dns-listen: expected HOST:PORT"),
    ):
        with pytest.raises(ValueError, match=why):
            run(replace(wish, **changes), print)  # type: ignore[arg-type]


def test_the_resolver_runs_until_it_is_told_to_stop(wish: Wish, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --dns-listen the command goes on after its text, and ends with 0 on SIGTERM."""
    said: list[str] = []

    def out(text: str) -> None:
        said.append(text)
        if "answering sbx.test and everything below it with 192.0.2.7" in text:
            os.kill(os.getpid(), signal.SIGTERM)

    assert run(replace(wish, dns_listen="127.0.0.1:0"), out) == 0
    assert len(said) == 2 and domain.DNS not in said[1]
