"""The ``network`` options of a create: what can be honoured is, everything else is refused by name.

Honoured: all outbound traffic off (``allow_internet_access: false``, or ``denyOut: ["0.0.0.0/0"]`` alone), private
user ports (``allowPublicTraffic: false``), and the ``Host`` seen by user ports (``maskRequestHost``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from appliance.manager.bodies import NetworkConfig
from appliance.manager.errors import Fault, invalid, unsupported

EVERYTHING = ("0.0.0.0/0", "::/0")
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+(?::(?:[0-9]{1,5}|\$\{PORT\}))?")
_PUBLIC_NEEDS_SECURE = (
    "You cannot create a sandbox without public access unless you enable secure envd access via 'secure' flag."
)


@dataclass(frozen=True)
class Network:
    """The network options that a sandbox is made with."""

    internet: bool = True
    """False: the node drops everything the sandbox sends out."""
    public: bool = True
    """False: user ports demand the traffic token."""
    mask_host: str | None = None
    echo: dict[str, Any] | None = None
    """What GET returns as ``network``; None: nothing was given."""


def plan(config: NetworkConfig | None, allow_internet_access: bool | None, *, secure: bool) -> Network:
    """Decide what to enforce.

    Raises:
        Fault: 400 naming the option that cannot be honoured.
    """
    internet = allow_internet_access is not False
    if config is None:
        return Network(internet=internet)
    _refuse(config)
    if config.deny_out:
        if not set(config.deny_out) <= set(EVERYTHING) or EVERYTHING[0] not in config.deny_out:
            raise unsupported("network.denyOut", 'only ["0.0.0.0/0"], everything, can be denied')
        internet = False
    public = config.allow_public_traffic is not False
    if not public and not secure:
        raise Fault(400, _PUBLIC_NEEDS_SECURE)
    return Network(internet=internet, public=public, mask_host=_mask(config), echo=config.given())


def _refuse(config: NetworkConfig) -> None:
    for option, value in (
        ("network.allowOut", config.allow_out),
        ("network.rules", config.rules),
        ("network.egressProxy", config.egress_proxy),
        ("network.dnsServers", config.dns_servers),
        ("network.httpsPorts", config.https_ports),
    ):
        if value:
            raise unsupported(option)


def _mask(config: NetworkConfig) -> str | None:
    mask = config.mask_request_host
    if mask is None:
        return None
    if len(mask) > 253 or _HOST.fullmatch(mask) is None:
        raise invalid("network.maskRequestHost", "expected a host name, with :PORT or :${PORT} if wanted")
    return mask
