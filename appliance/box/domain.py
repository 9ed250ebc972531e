"""``appliance domain``: what a domain of one's own needs, made or checked, and how the rest is done by hand.

Sandboxes are ``PORT-ID.NAME`` and the API is ``api.NAME``, so clients need a name server that knows every name below
NAME, and a certificate for ``*.NAME`` that they trust. The certificate is made here by the box's own authority, or is
one of the user's that is checked here; the name server is the user's, or the small one that this command can run.
Running it again changes nothing, unless a certificate comes within thirty days of its end.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from appliance.api.address import Domain, parse_address
from appliance.box import certificates, resolver
from appliance.box.layout import Layout, write_private
from appliance.box.main import command
from appliance.box.supervise import answered_address, until_signal

DNS = "127.0.53.53:53"
"""Where the examples have the resolver listen."""


@dataclass(frozen=True)
class Wish:
    """What was asked for."""

    domain: Domain
    data_dir: Path
    tls_cert: Path | None = None
    """A certificate of the user's; with ``tls_key``."""
    tls_key: Path | None = None
    address: str | None = None
    """IP address of the box as clients reach it; None: this machine's."""
    dns_listen: str | None = None
    """HOST:PORT of a resolver to run until it is stopped; None: none."""


def run(wish: Wish, out: Callable[[str], None]) -> int:
    """Make or check the certificate, print what remains to be done, and run the resolver if asked to.

    Raises:
        ValueError: something given cannot be used.
        RuntimeError: the box on this directory serves another domain, or ``dns_listen`` is taken.
        OSError: the directory or a file cannot be used.
    """
    if wish.dns_listen is not None:
        parse_address(wish.dns_listen, "--dns-listen")
    address = _address(wish)
    certificate = _own(wish) if wish.tls_cert else _made(wish)
    out("\n".join([*certificate, "", *_steps(wish, address)]))
    return asyncio.run(_resolve(wish, address, out)) if wish.dns_listen is not None else 0


def _address(wish: Wish) -> str:
    if wish.address is None:
        return answered_address("*:443")
    try:
        return str(ip_address(wish.address))
    except ValueError:
        raise ValueError(f"--address: expected an IP address, got {wish.address!r}") from None


def _own(wish: Wish) -> list[str]:
    """Check the user's certificate."""
    if wish.tls_cert is None or wish.tls_key is None:
        raise ValueError("--tls-cert and --tls-key belong together: give both or neither")
    certificates.check(wish.tls_cert, wish.tls_key, wish.domain.name)
    end, _ = certificates.facts(wish.tls_cert)
    return [f"certificate  {wish.tls_cert}, yours, good for *.{wish.domain.name} until {end:%Y-%m-%d}"]


def _made(wish: Wish) -> list[str]:
    """Make authority and certificate, or find them."""
    if wish.tls_key is not None:
        raise ValueError("--tls-cert and --tls-key belong together: give both or neither")
    layout, name = Layout(wish.data_dir), wish.domain.name
    _not_anothers(layout, name)
    before = ""
    try:
        for path in (layout.root, layout.tls):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        before = _fingerprint(layout.tls / "domain.crt")
        certificates.ensure(layout.tls, "localhost", write_private)
        certificates.ensure_domain(layout.tls, name, write_private)
    except PermissionError:
        raise RuntimeError(
            f"{layout.root} cannot be written: run this as root, or name a directory of yours with --data-dir"
        ) from None
    (end, fingerprint), (last, authority) = (certificates.facts(layout.tls / stem) for stem in ("domain.crt", "ca.crt"))
    what = "found" if fingerprint == before else "made"
    return [
        f"certificate  {layout.tls / 'domain.crt'}, {what}: for {name} and *.{name}, until {end:%Y-%m-%d};",
        f"             renewed {certificates.RENEW_BEFORE.days} days before by the running box, or by this command",
        f"authority    {layout.tls / 'ca.crt'}, until {last:%Y-%m-%d}, SHA-256",
        f"             {authority}",
    ]


def _fingerprint(path: Path) -> str:
    return certificates.facts(path)[1] if path.exists() else ""


def _not_anothers(layout: Layout, name: str) -> None:
    """A running box must not lose the certificate of the domain it serves."""
    try:
        served = json.loads(layout.endpoints.read_text())["domain"]
    except (OSError, ValueError, KeyError):
        return
    running = str(served or "").partition(":")[0]
    if running and running != name:
        raise RuntimeError(
            f"the box on {layout.root} serves {running}: stop it first, or name another directory with --data-dir"
        )


def _steps(wish: Wish, address: str) -> list[str]:
    name, port, tls = wish.domain.name, wish.domain.port or 443, Layout(wish.data_dir).tls
    called, own = command(wish.data_dir), wish.tls_cert is not None
    files = [f"--tls-cert={wish.tls_cert}", f"--tls-key={wish.tls_key}"] if own else []
    start = f"{called} --role=all --domain={wish.domain} --tls-listen=0.0.0.0:{port}"
    lines = [
        "1. Start the box with it:",
        f"     {' '.join([start, *map(shlex.quote, files)])}",
        f"2. Let clients find api.{name} and every *.{name} at {address}; one of:",
        f"     your DNS:           *.{name}. 300 IN {'AAAA' if ':' in address else 'A'} {address}",
        f"     dnsmasq:            address=/{name}/{address}",
        f"     the box's resolver: --dns-listen={DNS} in step 1, or without a box",
        f"                         {called} domain {wish.domain} --address={address} --dns-listen={DNS}",
        f"                         and first in /etc/resolv.conf: nameserver {parse_address(DNS, 'DNS').host}",
    ]
    if not own:
        lines += [
            "3. Let clients trust the authority; one of:",
            f"     a shell (Python):   export SSL_CERT_FILE={tls / 'bundle.crt'}",
            f"     a shell (Node):     export NODE_EXTRA_CA_CERTS={tls / 'ca.crt'}",
            f"     Debian, Ubuntu:     cp {tls / 'ca.crt'} /usr/local/share/ca-certificates/appliance.crt",
            "                         update-ca-certificates",
            f"     Fedora, RHEL:       cp {tls / 'ca.crt'} /etc/pki/ca-trust/source/anchors/appliance.crt",
            "                         update-ca-trust",
        ]
    return [
        *lines,
        f"{3 if own else 4}. Point clients at it:",
        f"     export E2B_DOMAIN={wish.domain} E2B_API_KEY=…    (all of it: {called} env)",
    ]


async def _resolve(wish: Wish, address: str, out: Callable[[str], None]) -> int:
    """Answer questions until SIGINT or SIGTERM."""
    listen = wish.dns_listen or DNS
    stop = asyncio.create_task(until_signal())
    async with resolver.serving(listen, wish.domain.name, address):
        out(f"\nanswering {wish.domain.name} and everything below it with {address} on {listen}; Ctrl-C ends it")
        await stop
    return 0
