"""The private root of one container, assembled by its own first process while it still is the box's root.

In two halves. ``stage``: layers, the writable image, the overlays and every volume are opened in the process's own
mount namespace, below a tmpfs. Then the process pivots, and the box's tree is gone from its sight. ``finish``
attaches the rest: only now are paths of the sandbox resolved, so that a symbolic link its user left in a kept layer
leads nowhere but into the sandbox. What the overlays and devices hold lives exactly as long as the container's
processes.

Layers of the box and of images are shown through the sandbox's id map, so that files of uid 0 belong to the
sandbox's root and setuid programs (sudo) work inside without meaning anything outside.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from appliance.embedded.node import disk
from appliance.embedded.node import syscalls as sys
from appliance.embedded.node.request import Mount, Root

STAGE = "/opt/stage"
"""Mount point in the template's mount namespace."""
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "fd/0",
    "stdout": "fd/1",
    "stderr": "fd/2",
    "ptmx": "pts/ptmx",
    "core": "/proc/kcore",
}
CGROUPS = "/sys/fs/cgroup"
"""Where programs look for their own limits and usage: JVMs size their heaps by it, the runtime reads its metrics."""
_SAFE = sys.MS_NOSUID | sys.MS_NODEV | sys.MS_NOEXEC
_LOOK_ONLY = sys.MOUNT_ATTR_RDONLY | sys.MOUNT_ATTR_NOSUID | sys.MOUNT_ATTR_NODEV


@dataclass
class Assembly:
    """One container's root being built. ``owner`` is the host uid (and gid) of root inside."""

    root: Root
    userns: int
    owner: int
    pending: list[tuple[int, str]] = field(default_factory=list)
    """Detached mounts and the paths inside where they belong."""
    fuse: bool = False
    figures: Mapping[str, str] = field(default_factory=dict)
    """Control group directories to show read-only: path below ``CGROUPS`` → directory on the box."""

    def build(self) -> None:
        """Make the root and pivot into it. Raises ``OSError`` naming the step."""
        sys.mount("none", "/", None, sys.MS_REC | sys.MS_PRIVATE)
        sys.mount("tmpfs", STAGE, "tmpfs", 0, "mode=700,size=1m")
        self.stage()
        sys.pivot_into(f"{STAGE}/root")
        self.finish()

    def stage(self) -> None:
        """The half that needs the box's paths."""
        self.fuse = os.path.exists("/dev/fuse")
        disk_path = self._disk()
        layer = f"{disk_path}/layers/{self.root.layer}"
        if self.root.stale:
            shutil.rmtree(f"{disk_path}/layers/{self.root.stale}", ignore_errors=True)
        lowers = [self._lower(path, f"l{number}") for number, path in enumerate(self.root.lowers)]
        self._overlay(lowers, f"{layer}/root", f"{STAGE}/root")
        for number, path in enumerate(self.root.box_directories):
            merged = f"{STAGE}/m{number}"
            self._overlay([self._lower(path, f"b{number}")], f"{layer}/box{path.replace('/', '-')}", merged)
            self.pending.append((sys.clone_tree(merged), path))
        if self.root.appliance and os.path.isdir("/opt/appliance"):
            fd = sys.clone_tree("/opt/appliance", recursive=True)
            read_only = sys.MOUNT_ATTR_RDONLY | sys.MOUNT_ATTR_NOSUID | sys.MOUNT_ATTR_NODEV
            sys.set_tree_attributes(fd, read_only, recursive=True)
            self.pending.append((fd, "/opt/appliance"))
        for name, directory in self.figures.items():
            fd = sys.clone_tree(directory)
            sys.set_tree_attributes(fd, sys.MOUNT_ATTR_RDONLY | sys.MOUNT_ATTR_NOSUID | sys.MOUNT_ATTR_NODEV)
            self.pending.append((fd, f"{CGROUPS}/{name}".rstrip("/")))
        for mount in self.root.mounts:
            if not mount.tmpfs:
                self.pending.append((self._volume(mount, disk_path), mount.target))

    def finish(self) -> None:
        """The half inside the new root."""
        os.umask(0o022)
        self._devices("/dev")
        for path in ("/proc", "/sys"):
            self._directory(path)
        sys.mount("proc", "/proc", "proc", _SAFE)
        self._boot_id()
        sys.mount("sysfs", "/sys", "sysfs", _SAFE | sys.MS_RDONLY)
        if self.figures and "" not in self.figures:
            sys.mount("tmpfs", CGROUPS, "tmpfs", _SAFE, "mode=755,size=64k")
        self._files()
        for fd, target in self.pending:
            self._mount_point(target, directory=stat.S_ISDIR(os.fstat(fd).st_mode))
            sys.attach_tree(fd, target)
        for mount in self.root.mounts:
            if mount.tmpfs:
                self._directory(mount.target)
                sys.mount("tmpfs", mount.target, "tmpfs", sys.MS_NOSUID | sys.MS_NODEV, f"mode=1777,size={mount.tmpfs}")

    def _disk(self) -> str:
        """The writable image, mounted in the stage; or the plain directory."""
        if self.root.image is None:
            os.makedirs(self.root.directory, exist_ok=True)
            return self.root.directory
        path = f"{STAGE}/disk"
        os.mkdir(path)
        disk.mount_image(self.root.image, path, f"{STAGE}/loop")
        return path

    def _lower(self, path: str, name: str) -> str:
        """A read-only layer shown through the id map, at a short path (an overlay's options are one page)."""
        target = f"{STAGE}/{name}"
        os.mkdir(target)
        sys.bind(path, target, sys.MOUNT_ATTR_RDONLY, userns=self.userns)
        return target

    def _overlay(self, lowers: list[str], layer: str, target: str) -> None:
        upper, work = f"{layer}/upper", f"{layer}/work"
        for path in (upper, work):
            os.makedirs(path, exist_ok=True)
        status = os.stat(lowers[0])
        os.chown(upper, status.st_uid, status.st_gid)
        os.chmod(upper, stat.S_IMODE(status.st_mode))
        os.makedirs(target, exist_ok=True)
        options = f"lowerdir={':'.join(lowers)},upperdir={upper},workdir={work},index=off,xino=off"
        sys.mount("overlay", target, "overlay", 0, options)

    def _files(self) -> None:
        """Write hosts, hostname and resolv.conf; in a kept layer, what the user made of them stays."""
        for path, text in self.root.files.items():
            self._directory(os.path.dirname(path))
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
            except OSError:
                continue
            with open(fd, "w") as file:
                file.write(text)
                os.fchown(fd, self.owner, self.owner)

    def _boot_id(self) -> None:
        """A file over the kernel's own, for a pod that has booted more than once."""
        if self.root.boot_id is None:
            return
        path = "/dev/.boot-id"
        with open(path, "w") as file:
            file.write(f"{self.root.boot_id}\n")
            os.fchmod(file.fileno(), 0o444)
        sys.bind(path, "/proc/sys/kernel/random/boot_id", _LOOK_ONLY)
        os.unlink(path)

    def _directory(self, path: str) -> None:
        """Like ``makedirs``, but what is made belongs to the sandbox's root."""
        if os.path.isdir(path):
            return
        self._directory(os.path.dirname(path))
        os.mkdir(path)
        os.chown(path, self.owner, self.owner)

    def _mount_point(self, path: str, *, directory: bool) -> None:
        if directory:
            self._directory(path)
            return
        self._directory(os.path.dirname(path))
        if not os.path.exists(path):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.fchown(fd, self.owner, self.owner)
            os.close(fd)

    def _devices(self, path: str) -> None:
        self._directory(path)
        sys.mount("tmpfs", path, "tmpfs", sys.MS_NOSUID, f"mode=755,size=1m,uid={self.owner},gid={self.owner}")
        nodes = dict(DEVICES)
        if self.fuse:
            nodes["fuse"] = (10, 229)
        for name, (major, minor) in nodes.items():
            os.mknod(f"{path}/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
            os.chmod(f"{path}/{name}", 0o666)
            os.chown(f"{path}/{name}", self.owner, self.owner)
        for name, target in LINKS.items():
            os.symlink(target, f"{path}/{name}")
        for name in ("pts", "shm"):
            os.mkdir(f"{path}/{name}")
        terminals = f"newinstance,ptmxmode=0666,mode=0620,gid={self.owner + 5}"
        sys.mount("devpts", f"{path}/pts", "devpts", sys.MS_NOSUID | sys.MS_NOEXEC, terminals)
        sys.mount("tmpfs", f"{path}/shm", "tmpfs", sys.MS_NOSUID | sys.MS_NODEV, "mode=1777")

    def _volume(self, mount: Mount, disk_path: str) -> int:
        """A detached copy of the volume's mount, with its attributes."""
        source = mount.source
        if mount.on_disk:
            source = f"{disk_path}/{source}"
            if not os.path.isdir(source):
                os.makedirs(source)
                os.chown(source, self.owner, self.owner)
                os.chmod(source, 0o1777)
        attributes = sys.MOUNT_ATTR_NODEV | sys.MOUNT_ATTR_NOSUID | (sys.MOUNT_ATTR_RDONLY if mount.read_only else 0)
        fd = sys.clone_tree(source)
        if mount.idmap:
            attributes |= sys.MOUNT_ATTR_IDMAP
        sys.set_tree_attributes(fd, attributes, userns=self.userns if mount.idmap else 0)
        return fd
