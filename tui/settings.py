"""What the command line decides about the flight deck."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.config import KubeSettings


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
