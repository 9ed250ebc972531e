"""The box's authority and what it signs, proven by real TLS handshakes."""

import socket
import ssl
import threading
from pathlib import Path

import pytest

from appliance.box import certificates
from appliance.box.layout import write_private


def handshake(directory: Path, stem: str, name: str) -> None:
    """Connect to a server that holds a leaf, as a client that trusts the authority and wants ``name``."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(directory / f"{stem}.crt", directory / f"{stem}.key")
    client = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(ours, server_hostname=name).close()
    finally:
        ours.close()
        thread.join()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with an authority, a server leaf and the leaf of sbx.test."""
    certificates.ensure(tmp_path, "127.0.0.1", write_private)
    certificates.ensure_domain(tmp_path, "sbx.test", write_private)
    return tmp_path


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_server_leaf_serves_loopback(directory: Path, name: str) -> None:
    """kubectl's checks pass for the address and for localhost."""
    handshake(directory, "server", name)


@pytest.mark.parametrize("name", ["sbx.test", "api.sbx.test", "49999-iabc.sbx.test"])
def test_the_domain_leaf_serves_the_domain_and_one_level_below(directory: Path, name: str) -> None:
    """API and sandbox names of E2B are covered by the wildcard."""
    handshake(directory, "domain", name)


def test_a_foreign_name_is_refused(directory: Path) -> None:
    """The certificate is for the domain, not for everything."""
    with pytest.raises(ssl.SSLError):
        handshake(directory, "domain", "other.test")


def test_leaves_are_kept_and_renewed_with_their_authority(directory: Path) -> None:
    """A second start changes nothing; a new authority signs new leaves."""
    first = (directory / "server.crt").read_bytes()
    certificates.ensure(directory, "127.0.0.1", write_private)
    assert (directory / "server.crt").read_bytes() == first
    (directory / "ca.key").unlink()
    certificates.ensure(directory, "127.0.0.1", write_private)
    assert (directory / "server.crt").read_bytes() != first
    handshake(directory, "server", "localhost")


def test_another_address_gets_another_leaf(directory: Path) -> None:
    """A server that moved is served by a certificate of its new address."""
    certificates.ensure(directory, "127.0.0.9", write_private)
    handshake(directory, "server", "127.0.0.9")
