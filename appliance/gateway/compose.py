"""The head that goes to an upstream: the client's, without fields of its hop, with ours about where it came from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from appliance.gateway.request_head import RequestHead

_MASK = re.compile(r"[A-Za-z0-9.:\[\]_~%-]{1,255}")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a client connection comes from; the lines are ready-made because they are the same for every request."""

    address: bytes
    scheme: bytes
    lines: bytes
    """The ``X-Forwarded-For`` and ``-Proto`` lines of a client that sent none itself."""

    @classmethod
    def of(cls, address: str, *, tls: bool) -> Origin:
        """``address``: the peer's IP address."""
        client, scheme = address.encode("latin-1"), b"https" if tls else b"http"
        return cls(client, scheme, b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b" % (client, scheme))


def compose_request(
    request: RequestHead, path: bytes, host: bytes | None, prefix: bytes, origin: Origin, *, receipt: str | None = None
) -> bytes:
    """The whole head.

    Args:
        path: Path and query that the upstream sees.
        host: Value of ``Host``; None (HTTP/1.0 without one) becomes empty, as RFC 9112 §3.2 demands.
        prefix: What was removed in front of the path; sent as ``X-Forwarded-Prefix``.
        receipt: Number by which the control API hears whether its answer was delivered.
    """
    fields = request.fields
    if fields.forwarded or prefix:
        tail = b"".join([b"\r\n" + line for line in _forwarded(fields.forwarded, prefix, origin)])
    else:
        tail = origin.lines
    if request.host:
        tail += b"\r\nX-Forwarded-Host: " + fields.forwarded.get(b"x-forwarded-host", request.host)
    if receipt is not None:
        tail += b"\r\nX-Appliance-Receipt: " + receipt.encode()
    if request.upgrade is not None:
        tail += b"\r\nConnection: Upgrade\r\nUpgrade: " + request.upgrade
    return b"%b %b HTTP/1.1\r\nHost: %b%b%b\r\n\r\n" % (request.method, path, host or b"", fields.block, tail)


def masked_host(mask: str, port: int, host: bytes | None) -> bytes | None:
    """``maskRequestHost`` with ``${PORT}`` filled in; the client's own host when the mask is no host name."""
    text = mask.replace("${PORT}", str(port))
    return text.encode() if _MASK.fullmatch(text) else host


def _forwarded(received: dict[bytes, bytes], prefix: bytes, origin: Origin) -> list[bytes]:
    """Our hop is appended to the list of addresses; a proxy in front knows scheme and host better than we do."""
    before = received.get(b"x-forwarded-for")
    address = before + b", " + origin.address if before else origin.address
    lines = [
        b"X-Forwarded-For: " + address,
        b"X-Forwarded-Proto: " + received.get(b"x-forwarded-proto", origin.scheme),
    ]
    whole = received.get(b"x-forwarded-prefix", b"").rstrip(b"/") + prefix
    if whole:
        lines.append(b"X-Forwarded-Prefix: " + whole)
    return lines
