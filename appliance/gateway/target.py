"""Which upstream a request is for: headers, then host, then path, then the control API.

Pure: a request head in, a target out. The order is the architecture's "The gateway's routes"; the texts of the
refusals are those of the E2B proxy (contract §1.20), which answers them as plain text.
"""

from __future__ import annotations

import posixpath
import re
from typing import Final, NamedTuple, cast
from urllib.parse import unquote_to_bytes

from appliance.gateway.request_head import Fields, RequestHead

PORT_ENVD: Final = 49983
RUNTIME_PORTS: Final = frozenset({PORT_ENVD, 49999})
"""envd and the code interpreter."""
PORT_EVENTS: Final = 49981
"""Of the sandbox's own programs; nobody else is served there."""
CONTROL_PREFIX: Final = b"/kruise/api"
CONTROL_PATHS: Final = (b"/sandboxes/", b"/v2/sandboxes/")
"""Not envd's: SDKs such as e2b 2.8 send ``sandbox.connect()`` to the API with the sandbox's own headers."""

RESERVED: Final = frozenset({b"/init", b"/freeze", b"/unfreeze", b"/collapse", b"/fsfreeze", b"/fsthaw", b"/upgrade"})
"""Paths of port 49983 that only the control plane may call."""

_ID = re.compile(rb"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,126}[A-Za-z0-9])?")
_LABEL = re.compile(rb"([0-9]+)-([A-Za-z0-9]+)(?:-[^.]*)?")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~%-]*)(?::[0-9]{0,5})?")
_PATH = re.compile(rb"/kruise/([^/?]*)(?:/([^/?]*))?(.*)", re.DOTALL)


class InvalidAddress(Exception):
    """400 with the text that the E2B proxy uses."""


class ControlTarget(NamedTuple):
    """The control API."""

    path: bytes
    """Path and query as the application sees them."""
    prefix: bytes = b""
    """What was removed from the path."""


class SandboxTarget(NamedTuple):
    """One port of one sandbox."""

    sandbox_id: str
    port: int
    path: bytes
    prefix: bytes = b""


def decide(request: RequestHead) -> ControlTarget | SandboxTarget:
    """The target of a request.

    Raises:
        InvalidAddress: ``missing header``, ``Invalid host``, ``Invalid sandbox ID`` or ``Invalid sandbox port``.
    """
    fields = request.fields
    if request.host is not fields.host:  # an absolute target overrides what the fields say
        address = _named(fields, request.host)
    elif fields.address is False:
        address = fields.address = _named(fields, request.host)
    else:
        address = cast("tuple[str, int] | None", fields.address)
    if address is not None:
        if address[1] == PORT_ENVD and fields.sandbox_id is not None and request.url.startswith(CONTROL_PATHS):
            return ControlTarget(request.url)
        return SandboxTarget(address[0], address[1], request.url)
    if request.url.startswith(b"/kruise/"):
        return _by_path(request.url)
    return ControlTarget(request.url)


def _named(fields: Fields, host: bytes | None) -> tuple[str, int] | None:
    """The sandbox that headers or host name."""
    if fields.sandbox_id is not None or fields.sandbox_port is not None:
        if fields.sandbox_id is None or fields.sandbox_port is None:
            raise InvalidAddress("missing header")
        return _sandbox_id(fields.sandbox_id), _port(fields.sandbox_port)
    if _HOST.fullmatch(host or b"") is None:
        raise InvalidAddress("Invalid host")
    return _by_host(host) if host and host[:1].isdigit() else None


def reserved(url: bytes) -> bool:
    """True for the control plane's own endpoints of port 49983, however the path is spelled."""
    path = url.partition(b"?")[0]
    if b"%" not in path and b"//" not in path and b"/." not in path and path[-1:] != b"/":
        return path.lower() in RESERVED
    if b"%" in path:
        path = unquote_to_bytes(path)
    return posixpath.normpath(b"/" + path.lstrip(b"/")).lower() in RESERVED


def _by_host(host: bytes) -> tuple[str, int] | None:
    label = host.partition(b".")[0].partition(b":")[0]
    match = _LABEL.fullmatch(label)
    if match is None or match[2].isdigit():  # 10-0-0-5.example.org is the name of a machine
        return None
    return _sandbox_id(match[2].lower()), _port(match[1])


def _by_path(url: bytes) -> ControlTarget | SandboxTarget:
    match = _PATH.fullmatch(url)
    assert match is not None
    first, second, rest = match[1], match[2], match[3]
    if first == b"api":
        return ControlTarget(_rooted(url[len(CONTROL_PREFIX) :]), CONTROL_PREFIX)
    sandbox_id, port = _sandbox_id(first), _port(second or b"")
    return SandboxTarget(sandbox_id, port, _rooted(rest), b"/kruise/%b/%b" % (first, second))


def _rooted(rest: bytes) -> bytes:
    return rest if rest[:1] == b"/" else b"/" + rest


def _sandbox_id(text: bytes) -> str:
    if _ID.fullmatch(text) is None:
        raise InvalidAddress("Invalid sandbox ID")
    return text.decode("ascii")


def _port(text: bytes) -> int:
    if not text.isdigit() or len(text) > 5 or not 1 <= int(text) <= 65535:
        raise InvalidAddress("Invalid sandbox port")
    return int(text)
