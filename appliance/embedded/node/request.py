"""What the node agent asks of the template process: one JSON message per request, descriptors beside it.

``Spawn`` starts a container (descriptors: stdout, stderr, answer socket), ``Exec`` a program in a running one
(stdin, stdout, stderr, control socket), ``Stop`` ends the template. Every ``Spawn`` and ``Exec`` is answered on the
socket it brought, by the child that does the work, so that the template itself only forks. The end of a container is
written to its ``exit_file``; agents learn of the end itself from a pidfd.
"""

from __future__ import annotations

import msgspec

PROTOCOL = 1
"""Raised whenever a message changes its meaning; an agent replaces a template that speaks another number."""
MAX_MESSAGE = 128 * 1024
"""Bytes of one message."""


class Mount(msgspec.Struct, frozen=True):
    """One volume in a container."""

    source: str
    """Path on the box, or below the pod's image when ``on_disk``."""
    target: str
    read_only: bool = False
    on_disk: bool = False
    """The source is a directory of the sandbox's own writable image (emptyDir)."""
    idmap: bool = False
    """Show files through the sandbox's id map: uid 0..65535 on the box are the same numbers inside."""
    tmpfs: int = 0
    """Bytes of a memory-backed volume instead of a bind (emptyDir with medium Memory)."""


class Network(msgspec.Struct, frozen=True):
    """A pod's address and its place on the bridge."""

    address: str
    """With prefix length."""
    gateway: str
    bridge: str
    veth: str
    mtu: int = 1500


class Root(msgspec.Struct, frozen=True):
    """Of what the private root is made."""

    lowers: tuple[str, ...]
    """Read-only layers, uppermost first; the skeleton or an image's layers."""
    box_directories: tuple[str, ...]
    """Directories of the box shown read-only with a private layer over them (``/usr``); empty for images."""
    image: str | None
    """Loop image of the writable layer; None: ``directory``."""
    directory: str
    """Where a plain writable layer lives when there is no loop device."""
    layer: str
    """Name of the container's layer inside the image."""
    files: dict[str, str]
    """Small files written at start: hosts, hostname, resolv.conf."""
    mounts: tuple[Mount, ...] = ()
    appliance: bool = True
    """Show /opt/appliance."""
    stale: str = ""
    """Name of the layer that this one replaces, to be removed."""
    boot_id: str | None = None
    """Shown as /proc/sys/kernel/random/boot_id; None: the box's own."""


class Command(msgspec.Struct, frozen=True):
    """A program with its surroundings."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str = "/"
    user: str | None = None
    uid: int | None = None
    gid: int | None = None


class Spawn(msgspec.Struct, frozen=True, tag="spawn"):
    """Start one container of a pod."""

    pod: str
    """UID of the pod."""
    container: str
    hostname: str
    exit_file: str
    cgroups: dict[str, str]
    unified: bool
    uid_start: int
    root: Root | None
    """None: no isolation."""
    network: Network | None
    """The network namespace to make, when ``join`` is 0."""
    join: int
    """Pid of a living container of the same pod whose network namespace to join; 0: none lives."""
    runtime: dict[str, str | int | bool] | None
    """Fields of ``RuntimeSettings``; None: no runtime, only the command."""
    main: Command | None
    env: dict[str, str]
    """Environment of the first process."""


class Exec(msgspec.Struct, frozen=True, tag="exec"):
    """Run a program beside a container's first process."""

    pid: int
    start: int
    """Start time of ``pid``; another process under that pid is refused."""
    cgroups: dict[str, str]
    command: Command
    tty: bool
    isolated: bool
    columns: int = 80
    rows: int = 24


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """End the template; containers go on."""


Request = Spawn | Exec | Stop


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First message to an agent."""

    pid: int
    protocol: int
    build: str
    """Fingerprint of the code it was started from."""


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """Content of an exit file: a container's first process ended."""

    pod: str
    container: str
    pid: int
    start: int
    code: int
    """Exit status, or 128 + signal."""
    at: float
    """Unix seconds."""


class Spawned(msgspec.Struct, frozen=True, tag="spawned"):
    """Answer to ``Spawn``; a failure names the step."""

    pid: int = 0
    start: int = 0
    error: str = ""


class ExecEvent(msgspec.Struct, frozen=True, tag="exec"):
    """On the control socket of an ``Exec``: started (with the terminal's descriptor, when asked for), then ended."""

    started: bool = False
    code: int | None = None
    error: str = ""
