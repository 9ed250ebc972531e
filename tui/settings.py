"""What the command line decides about the flight deck."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.config import KubeSettings


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """``--web``: the same deck in a browser."""

    host: str = "127.0.0.1"
    port: int = 8090
    """0: any that is free."""
    sessions: int = 4
    """Visitors at a time; each is a process."""
    command: tuple[str, ...]
    """Starts the deck of one visitor."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What that process gets besides ours."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, kw_only=True)
class TuiSettings:
    """--role=tui."""

    kube: KubeSettings
    """The cluster to look at; unused with ``replay``."""
    namespace: str | None = None
    """Watch only this namespace (all that a namespaced role may do); None: all."""
    readonly: bool = False
    """Hide every action that changes the cluster."""
    once: str | None = None
    """Print the tables once, as ``text`` or ``json``, instead of starting the screen."""
    record: Path | None = None
    """Write every change to this file, compressed."""
    replay: Path | None = None
    """Play such a file instead of watching a cluster."""
    no_color: bool = False
    """Attributes instead of colours (``NO_COLOR``)."""
    config: Path = Path("~/.config/appliance/tui.toml")
    """Theme, columns and keys; see ``configuration``."""
    web: WebSettings | None = None
    """Serve the deck to browsers instead of showing it here."""
