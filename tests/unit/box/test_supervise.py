"""The supervisor's own checks."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.box import certificates
from appliance.box.layout import Layout
from appliance.box.supervise import answered_address, client_domain, keep_renewed, with_certificate
from appliance.config import BoxSettings, GatewaySettings


async def test_a_running_box_renews_its_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that comes near its end is replaced without a restart; one that is good is left alone."""
    layout = Layout(tmp_path)
    layout.prepare("127.0.0.1:1")
    gateway = GatewaySettings(tls_listen="127.0.0.1:8443")
    settings = BoxSettings(data_dir=tmp_path, gateway=gateway, domain="sbx.test")
    monkeypatch.setattr(certificates, "SERVER_LIFE", timedelta(days=20))
    with_certificate(settings, layout)
    old = (layout.tls / "domain.crt").read_bytes()
    monkeypatch.undo()
    renewing = asyncio.create_task(keep_renewed(settings, layout, interval=0.01))
    async with asyncio.timeout(10):
        while (layout.tls / "domain.crt").read_bytes() == old:
            await asyncio.sleep(0.01)
    new = (layout.tls / "domain.crt").read_bytes()
    await asyncio.sleep(0.05)
    renewing.cancel()
    assert (layout.tls / "domain.crt").read_bytes() == new


@pytest.mark.parametrize(
    ("domain", "listen", "told"),
    [
        (None, "0.0.0.0:443", None),
        ("sbx.test", None, "sbx.test"),
        ("sbx.test", "0.0.0.0:443", "sbx.test"),
        ("sbx.test", "0.0.0.0:8443", "sbx.test:8443"),
        ("sbx.test:443", "0.0.0.0:8443", "sbx.test"),
        ("sbx.test:9443", "[::1]:8443", "sbx.test:9443"),
    ],
)
def test_clients_are_told_the_port_they_need(domain: str | None, listen: str | None, told: str | None) -> None:
    """The one that was given, else the TLS socket's; 443 needs no saying."""
    settings = BoxSettings(domain=domain)
    settings = replace(settings, gateway=replace(settings.gateway, tls_listen=listen))
    assert client_domain(settings) == told


def test_the_resolver_answers_with_an_address_that_can_be_dialled() -> None:
    """Never with 0.0.0.0: a box that listens everywhere is found at its own address."""
    assert answered_address("127.0.0.7:443") == "127.0.0.7"
    assert answered_address("localhost:443") == "127.0.0.1"
    assert answered_address("[2001:db8::1]:443") == "2001:db8::1"
    assert answered_address("*:443") not in ("0.0.0.0", "None", "")
