"""Settings of the runtime, one frozen dataclass, passed down from whoever starts it.

The runtime imports nothing of ours outside its own package, so these fields live here and not in ``appliance.config``.
The embedded node builds a ``RuntimeSettings`` per sandbox in the template's child; in a pod ``runtime/main.py`` builds
it from the environment and flags. Nothing else in the runtime reads the environment for configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB

ENVD_VERSION = "0.6.13"
"""Version of the envd contract spoken here, answered in ``X-Envd-Version``."""


@dataclass(frozen=True, kw_only=True)
class RuntimeSettings:
    """How one sandbox's runtime serves. Times are seconds, sizes bytes."""

    host: str = "0.0.0.0"
    """Address the listeners bind (IPv4, IPv6 or a name)."""
    envd_port: int = 49983
    """Port of the envd application; 0 picks a free one (tests)."""
    interpreter_port: int = 49999
    """Port of the code interpreter; skipped when something already listens there."""
    tunnel_port: int = 49982
    """Port of the loopback tunnel for the gateway; 0 picks a free one (tests)."""
    events_port: int = 49981
    """Port of the events service; skipped when something already listens there. 0 picks a free one (tests)."""
    events: bool = True
    """Serve the events service at all."""
    events_address: str | None = None
    """What programs find as ``E2B_EVENTS_ADDRESS`` while that is served; None: the port on loopback."""
    interpreter: bool = True
    """Serve the code interpreter at all."""
    tunnel: bool = True
    """Serve the loopback tunnel at all."""
    envd_version: str = ENVD_VERSION
    marker_root: Path | None = None
    """Where ``/init`` writes the marker files (``markers.py``): the sandbox's root; None: nowhere."""
    trust_root: Path | None = None
    """Root of the sandbox's trust store (``trust.py``); None: ``/init`` changes none."""

    seal_file: Path | None = None
    """Where the digest of the access token outlives the container (``seal.py``); None: a restart is open until init."""
    etc: Path = Path("/etc")
    """Directory of the ``passwd`` and ``group`` that name the sandbox's users."""
    access_token: str | None = None
    """Token demanded from the start; None: open until ``/init`` brings one."""
    default_user: str | None = "user"
    """User of requests that name none, until ``/init`` changes it; None: such requests are refused."""
    default_workdir: str | None = None
    """Directory of requests with an empty path, until ``/init`` changes it; None: the user's home."""
    system_env: Mapping[str, str] = field(default_factory=lambda: {"E2B_SANDBOX": "true"})
    """Variables of every process that ``/init`` never removes: ``E2B_*`` and the image's ENV."""
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    """PATH of processes when neither ``/init`` nor the request sets one."""

    max_message: int = 64 * MIB
    """Largest RPC message or envelope accepted; larger answers ``resource_exhausted``."""
    max_json_body: int = 4 * MIB
    """Largest body of ``/init`` and ``/files/compose``; larger answers 413."""
    max_event: int = 1 * MIB
    """Largest body of an event to be logged; larger answers 413."""
    max_head: int = 64 * KIB
    """Request line and headers; larger answers 431."""
    max_processes: int = 4096
    """Live processes started by clients; more answers ``resource_exhausted``."""
    max_watchers: int = 1024
    """Polling watchers; more answers ``resource_exhausted``."""
    max_watch_events: int = 65_536
    """Events a watcher holds for its reader before it reports that events were lost."""
    stream_buffer: int = 256 * KIB
    """Output held per subscriber before reading from the process pauses."""
    retention: float = 30.0
    """How long an ended process answers Connect."""
    keepalive: float = 90.0
    """Interval of keepalive events when the client sends no ``Keepalive-Ping-Interval``."""
    signal_drain: float = 0.2
    """After a signalled process is gone: how long its pipes may stay open in other hands before its end is told."""
    oom_score_adj: int = 100
    """``oom_score_adj`` of client processes, so that they die before the runtime."""
    keepalive_timeout: float = 620.0
    """How long an idle HTTP connection is kept; longer than any client's or gateway's pool keeps it."""
    shutdown_timeout: float = 3.0
    """How long open streams may go on after SIGTERM."""
    tunnel_timeout: float = 10.0
    """How long a tunnel client may take for its first line, and a dial for its connect."""
    max_tunnels: int = 4096
