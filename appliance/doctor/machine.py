"""A machine that is to run a box: one look at it, and what that means."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.api.address import parse_address
from appliance.doctor.findings import Finding, fail, ok, skip, warn
from appliance.embedded.node.cgroups import Hierarchy

PYTHONS = ((3, 11), (3, 14))
MACHINE = "x86_64"
PROGRAMS = {"ip": "iproute2", "nft": "nftables", "mkfs.ext4": "e2fsprogs"}
OPTIONAL = {"sudo": ("sudo", "`sudo` inside sandboxes"), "git": ("git", "the SDK's git module")}
CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_NET_ADMIN": 12, "CAP_SETUID": 7}
NAMESPACES = ("user", "net", "pid", "mnt", "ipc", "uts")
_MIB = 1024 * 1024
DISK_LEAST, DISK_GOOD = 200 * _MIB, 4096 * _MIB
MEMORY_GOOD = 1024 * _MIB
PROCESS_MODE = "or run without isolation, only for code you trust: appliance --role=all --isolation=process"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was seen."""

    python: tuple[int, int]
    machine: str
    kernel: str
    libc: str
    capabilities: int
    """Effective, as bits."""
    programs: Mapping[str, str | None]
    """Name → path, None: not in PATH."""
    filesystems: frozenset[str]
    namespaces: frozenset[str]
    max_user_namespaces: int | None
    loop: bool
    """Whether loop devices can be made."""
    cgroups: str
    """Empty: every controller is there and may be written; else what is wrong."""
    memory: int
    """Bytes available."""
    disk: int | None
    """Bytes free where the data directory is or would be; None: not known."""
    data_dir: Path
    busy: tuple[str, ...]
    """Addresses of the box that somebody else listens on."""
    nameservers: tuple[str, ...]
    running: bool
    """A box runs on the data directory."""


def look(data_dir: Path, listens: tuple[str, ...]) -> Machine:
    """See what is there; nothing is changed."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    names = Path("/proc/self/ns")
    running = _running(data_dir)
    return Machine(
        python=sys.version_info[:2],
        machine=platform.machine(),
        kernel=platform.release(),
        libc=" ".join(platform.libc_ver()).strip() or str(os.confstr("CS_GNU_LIBC_VERSION") or ""),
        capabilities=_capabilities(),
        programs={name: shutil.which(name, path=path) for name in (*PROGRAMS, *OPTIONAL)},
        filesystems=_filesystems(),
        namespaces=frozenset(entry.name for entry in names.iterdir()) if names.is_dir() else frozenset(),
        max_user_namespaces=_number(Path("/proc/sys/user/max_user_namespaces")),
        loop=Path("/dev/loop-control").exists(),
        cgroups=_cgroups(),
        memory=_available(),
        disk=_free(data_dir),
        data_dir=data_dir,
        busy=() if running else tuple(listen for listen in listens if _busy(listen)),
        nameservers=_nameservers(),
        running=running,
    )


def judge(seen: Machine) -> Iterator[Finding]:
    """What it means for a box."""
    yield _python(seen)
    if seen.machine != MACHINE or not seen.libc.startswith("glibc"):
        what = f"{seen.machine}, {seen.libc or 'no glibc'}"
        yield fail("machine.system", f"{what}: the file is for {MACHINE} with glibc", "use such a machine")
    else:
        yield ok("machine.system", f"Linux {seen.kernel} on {seen.machine}, {seen.libc}")
    lacking = [name for name, bit in CAPABILITIES.items() if not seen.capabilities >> bit & 1]
    if lacking:
        yield fail("machine.privileges", f"{', '.join(lacking)} missing", f"sudo appliance doctor; {PROCESS_MODE}")
    else:
        yield ok("machine.privileges", "may make namespaces, networks and users")
    yield from _programs(seen)
    yield from _kernel(seen)
    yield from _resources(seen)
    for listen in seen.busy:
        port = parse_address(listen, "--listen").port
        mend = f"end what `ss -ltnp 'sport = :{port}'` names, or choose another with --listen / --apiserver-listen"
        yield fail("machine.ports", f"{listen} is taken", mend)
    if not seen.busy:
        yield ok("machine.ports", "a box runs on this data directory" if seen.running else "the box's are free")
    if seen.nameservers:
        yield ok("machine.dns", f"name servers: {', '.join(seen.nameservers)}")
    else:
        yield warn(
            "machine.dns",
            "/etc/resolv.conf names no server: sandboxes cannot look up names",
            "echo 'nameserver ADDRESS' >> /etc/resolv.conf (not needed without internet)",
        )


def _python(seen: Machine) -> Finding:
    version, (oldest, newest) = f"Python {seen.python[0]}.{seen.python[1]}", PYTHONS
    if not oldest <= seen.python <= newest:
        wanted = f"{oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}"
        return fail("machine.python", f"{version}; {wanted} is needed", "apt-get install python3.11")
    return ok("machine.python", version)


def _programs(seen: Machine) -> Iterator[Finding]:
    missing = [name for name in PROGRAMS if seen.programs.get(name) is None]
    if missing:
        packages = " ".join(PROGRAMS[name] for name in missing)
        yield fail("machine.programs", f"{', '.join(missing)} not found", f"apt-get install {packages}")
    else:
        yield ok("machine.programs", ", ".join(PROGRAMS))
    for name, (package, purpose) in OPTIONAL.items():
        if seen.programs.get(name) is None:
            yield warn("machine.programs", f"{name} not found: {purpose} does without", f"apt-get install {package}")


def _kernel(seen: Machine) -> Iterator[Finding]:
    lacking = [f"{name} namespaces" for name in NAMESPACES if name not in seen.namespaces]
    if lacking:
        yield fail(
            "machine.kernel", f"no {', '.join(lacking)}", "boot a kernel with CONFIG_NAMESPACES and CONFIG_USER_NS"
        )
    if seen.max_user_namespaces == 0:
        yield fail("machine.kernel", "user namespaces are switched off", "sysctl -w user.max_user_namespaces=16384")
    if "overlay" not in seen.filesystems:
        yield fail("machine.kernel", "no overlay file system", "modprobe overlay")
    if not seen.loop:
        yield fail("machine.kernel", "no loop devices, which bound the sandboxes' disks", "modprobe loop")
    if not lacking and seen.max_user_namespaces != 0 and "overlay" in seen.filesystems and seen.loop:
        yield ok("machine.kernel", "namespaces, overlay, loop devices")
    if seen.cgroups:
        mend = f"mount them writable (`mount -o remount,rw /sys/fs/cgroup`), {PROCESS_MODE}"
        yield fail("machine.cgroups", seen.cgroups, mend)
    else:
        yield ok("machine.cgroups", "cpu, memory and pids may be written")


def _resources(seen: Machine) -> Iterator[Finding]:
    if seen.disk is None:
        yield skip("machine.disk", f"{seen.data_dir}: free space is not known")
    elif seen.disk < DISK_GOOD:
        judge_ = fail if seen.disk < DISK_LEAST else warn
        mend = "make room, or name another place with --data-dir"
        yield judge_(
            "machine.disk", f"{seen.data_dir}: {seen.disk // _MIB} MiB free, {DISK_GOOD // _MIB} are good", mend
        )
    else:
        yield ok("machine.disk", f"{seen.data_dir}: {seen.disk // _MIB} MiB free")
    if seen.memory < MEMORY_GOOD:
        mend = "end other programs, or keep pools small (a warm sandbox takes about 15 MiB)"
        yield warn("machine.memory", f"{seen.memory // _MIB} MiB available", mend)
    else:
        yield ok("machine.memory", f"{seen.memory // _MIB} MiB available")


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _filesystems() -> frozenset[str]:
    found = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    return frozenset(found | ({"overlay"} if Path("/sys/module/overlay").exists() else set()))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _cgroups() -> str:
    try:
        hierarchy = Hierarchy.find(Path("/proc/self/mountinfo").read_text(), "appliance")
    except OSError as error:
        return str(error.strerror)
    for _, directory in hierarchy.roots:
        if not os.access(Path(directory).parent, os.W_OK):
            return f"{Path(directory).parent} may not be written"
    return ""


def _available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _free(directory: Path) -> int | None:
    for place in (directory, *directory.parents):
        if place.is_dir():
            return shutil.disk_usage(place).free
    return None


def _running(data_dir: Path) -> bool:
    from appliance.box.lock import holder

    try:
        return holder(data_dir / "lock") is not None
    except OSError:
        return False


def _busy(listen: str) -> bool:
    address = parse_address(listen, "--listen")
    with socket.socket(socket.AF_INET6 if ":" in (address.host or "") else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host or "0.0.0.0", address.port))
        except OSError:
            return True
    return False


def _nameservers() -> tuple[str, ...]:
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except OSError:
        return ()
    return tuple(line.split()[1] for line in lines if line.startswith("nameserver ") and len(line.split()) > 1)
