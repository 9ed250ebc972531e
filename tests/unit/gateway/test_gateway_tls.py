"""The gateway's certificate files, replaced while it runs."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from appliance.box import certificates
from appliance.box.layout import write_private
from appliance.gateway.tls import LOOK_EVERY, Certificate


def made(directory: Path, name: str) -> tuple[Path, Path]:
    """An authority and a certificate for ``name``."""
    directory.mkdir()
    certificates.ensure(directory, "127.0.0.1", write_private)
    certificates.ensure_domain(directory, name, write_private)
    return directory / "domain.crt", directory / "domain.key"


def shown(context: ssl.SSLContext) -> bytes:
    """The certificate that a client sees."""
    ours, theirs = socket.socketpair()
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    thread = threading.Thread(target=lambda: context.wrap_socket(theirs, server_side=True).close())
    thread.start()
    with client.wrap_socket(ours) as wrapped:
        found = wrapped.getpeercert(binary_form=True)
    thread.join()
    assert found is not None
    return found


def test_renewed_files_are_used_without_a_restart(tmp_path: Path) -> None:
    """Looked at every few seconds; a pair that does not fit leaves the old one in use until it does."""
    cert, key = made(tmp_path / "first", "a.test")
    other, other_key = made(tmp_path / "second", "a.test")
    found = Certificate(cert, key)
    first = shown(found.context)
    found.refresh(1.0 * LOOK_EVERY)
    assert shown(found.context) == first
    write_private(key, other_key.read_text())
    found.refresh(1.5 * LOOK_EVERY)  # too soon to look
    found.refresh(2.0 * LOOK_EVERY)
    assert shown(found.context) == first
    write_private(cert, other.read_text())
    found.refresh(3.0 * LOOK_EVERY)
    second = shown(found.context)
    assert second != first
    cert.unlink()
    found.refresh(4.0 * LOOK_EVERY)
    assert shown(found.context) == second


def test_the_two_files_belong_together(tmp_path: Path) -> None:
    """None, both, or an error that names the settings."""
    assert Certificate.of(None, None) is None
    cert, _ = made(tmp_path / "one", "a.test")
    with pytest.raises(ValueError, match="tls_cert and tls_key must be set together"):
        Certificate.of(cert, None)
    with pytest.raises(ssl.SSLError):
        Certificate.of(cert, tmp_path / "one/ca.key")
