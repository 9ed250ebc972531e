"""The addresses a box listens on: free before its roles start, then answered by its own roles, not by a stranger's."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from appliance.api.address import parse_address


def require_free(addresses: Mapping[str, str | None]) -> None:
    """Make sure that nobody listens on these (flag → HOST:PORT; None: off), and that no two of them are the same.

    Raises:
        ValueError: one is not HOST:PORT.
        RuntimeError: one cannot be bound; the message names it and the flag that changes it.
    """
    with contextlib.ExitStack() as probes:
        for flag, listen in addresses.items():
            if listen is not None:
                probes.enter_context(_probe(listen, flag))


def _probe(listen: str, flag: str) -> socket.socket:
    address = parse_address(listen, flag)
    host = address.host or "0.0.0.0"  # what was asked for
    probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((host, address.port))
        probe.listen()
    except OSError as error:
        probe.close()
        raise RuntimeError(f"{listen} cannot be used: {error.strerror}; choose another with {flag} HOST:PORT") from None
    return probe


async def answers(url: str, *, socket: Path | None = None, authority: Path | None = None) -> bool:
    """True when ``url`` (over the Unix ``socket``, if given) answers with a 2xx status within a second.

    With ``authority`` (PEM file) only a server counts whose certificate it has signed.
    """
    trusted = _only(authority) if authority else False
    connector = aiohttp.UnixConnector(str(socket)) if socket else aiohttp.TCPConnector(ssl=trusted)
    timeout = aiohttp.ClientTimeout(total=1.0)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, session.get(url) as response:
            return response.status < 300
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


def _only(authority: Path) -> ssl.SSLContext:
    """Trusts certificates of this authority, under any name: the box's own, wherever it listens."""
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = False
    return context
