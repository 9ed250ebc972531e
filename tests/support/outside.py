"""Machines outside a box, without internet: addresses of documentation networks in a network namespace of the test's.

The namespace is joined to the box by one veth pair. On every address there is HTTP on ports 80 and 8000, HTTPS on 443
and a UDP echo on 9000; each answers with the address it was reached at, and HTTP with the names it was asked for. One
address may be a name server, with a zone of the test's.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SERVER = Path(__file__).with_name("outside_server.py")


@contextlib.contextmanager
def outside(
    addresses: Sequence[str],
    link: IPv4Network,
    *,
    names: Mapping[str, str] | None = None,
    dns: str = "",
    proven: Sequence[str] = (),
) -> Iterator[str]:
    """Hosts with these addresses, reachable from the box over ``link`` (a /30), for the block.

    Yields the certificate (PEM) of an authority that has signed for the names ``proven``.

    Args:
        addresses: of the hosts.
        link: a network for the two ends of the link.
        names: zone of the name server: name → address, or another name (CNAME).
        dns: the address among ``addresses`` on which the name server listens; none if empty.
        proven: names that the hosts prove by TLS; for others they show a certificate that nobody has signed.
    """
    name = f"out{os.getpid() % 100000}"
    near, far = (str(one) for one in link.hosts())
    with contextlib.ExitStack() as stack:
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "delete", name)
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        stack.callback(_ip, "link", "delete", name)
        _ip("addr", "add", f"{near}/{link.prefixlen}", "dev", name)
        _ip("link", "set", name, "up")
        for command in (
            ("addr", "add", f"{far}/{link.prefixlen}", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", near),
        ):
            _ip("-n", name, *command)
        for address in addresses:
            _ip("-n", name, "addr", "add", f"{address}/32", "dev", "lo")
            _ip("route", "add", f"{address}/32", "via", far)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = {"dns": dns, "names": dict(names or {}), "addresses": list(addresses)}
        settings["certificate"] = str(_certificate(directory / "outside.pem", "outside"))
        authority = ec.generate_private_key(ec.SECP256R1())
        settings["proven"] = {name: str(_certificate(directory / f"{name}.pem", name, authority)) for name in proven}
        command = ["ip", "netns", "exec", name, sys.executable, str(SERVER), json.dumps(settings)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stack.callback(server.wait)
        stack.callback(server.kill)
        assert server.stdout is not None
        with server.stdout:
            assert server.stdout.readline() == "serving\n"
            yield _signed("outside authority", authority, "outside authority", authority).decode()


def _certificate(path: Path, name: str, authority: ec.EllipticCurvePrivateKey | None = None) -> Path:
    """A certificate for a name and its key in one file, signed by itself unless there is an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    issuer = name if authority is None else "outside authority"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, plain) + _signed(name, key, issuer, authority or key)
    )
    return path


def _signed(name: str, key: ec.EllipticCurvePrivateKey, issuer: str, authority: ec.EllipticCurvePrivateKey) -> bytes:
    """PEM; one signed by the authority's own key is the authority's."""
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(_name(name)).issuer_name(_name(issuer))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name.replace(" ", "-"))]), critical=False)
    return builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _ip(*arguments: str) -> None:
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    subprocess.run(["ip", *arguments], check=True, env={**os.environ, "PATH": path})
