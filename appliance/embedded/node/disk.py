"""A sandbox's writable layer with a hard size: a sparse ext4 image behind a loop device.

Filling it gives ENOSPC inside and nowhere else, with no quota support from the box's file system. One empty image
per size is made once and copied by its few data extents (0.3 ms); the device is attached with autoclear, so it goes
when the last mount of it goes, which is when the sandbox's processes end. Without loop devices the layer is a plain
directory, without a limit of its own (``supported`` tells, the node says so in its status).
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from appliance.embedded.node import syscalls

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_FLAGS_AUTOCLEAR_DIRECT_IO = 4 | 16
_LOOP_MAJOR = 7
_GRAIN = 16 * 1024 * 1024
_ATTEMPTS = 64
_FORMAT = 2
"""Raised with every change of the empty image, so that kept ones of an older form are not used."""
_MAKING = threading.Lock()
"""Several sandboxes may want the first image of a size at once, each from its own worker thread."""


def supported() -> bool:
    """Whether loop devices and mkfs.ext4 can be had here."""
    return os.path.exists("/dev/loop-control") and _mkfs() is not None


def _mkfs() -> str | None:
    for directory in ("/usr/sbin", "/sbin", "/usr/bin"):
        if os.access(f"{directory}/mkfs.ext4", os.X_OK):
            return f"{directory}/mkfs.ext4"
    return None


def template(directory: Path, size: int) -> Path:
    """The empty image of ``size`` bytes (rounded up to 16 MiB), made on first use. Raises ``OSError``."""
    size = max(2, -(-size // _GRAIN)) * _GRAIN
    path = directory / f"empty-{_FORMAT}-{size}.ext4"
    with _MAKING:
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            _make_empty(path, size)
    return path


def _make_empty(path: Path, size: int) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with open(fresh, "wb") as file:
        file.truncate(size)
    # No journal: the layer outlives its processes only across a stop, and a clean unmount always precedes that.
    features = "^has_journal,^resize_inode,^metadata_csum,uninit_bg,sparse_super2"
    extended = "lazy_itable_init=1,nodiscard,packed_meta_blocks=1,num_backup_sb=0"
    command = [
        _mkfs() or "mkfs.ext4",
        "-q",
        "-F",
        "-b",
        "4096",
        "-O",
        features,
        "-E",
        extended,
        "-i",
        "32768",
        "-m",
        "0",
    ]
    done = subprocess.run([*command, str(fresh)], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        fresh.unlink()
        raise OSError(5, f"mkfs.ext4 for a layer of {size} bytes: {done.stderr.strip()}")
    fresh.rename(path)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy only the data extents; the rest stays a hole."""
    with open(source, "rb") as src, open(target, "xb") as dst:
        size = os.fstat(src.fileno()).st_size
        os.ftruncate(dst.fileno(), size)
        position = 0
        with suppress(OSError):  # ENXIO: no data after position
            while True:
                start = os.lseek(src.fileno(), position, os.SEEK_DATA)
                position = os.lseek(src.fileno(), start, os.SEEK_HOLE)
                _copy_range(src.fileno(), dst.fileno(), start, position)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        data = os.pread(source, min(end - start, 1 << 16), start)
        if data.count(0) != len(data):  # zeros stay a hole
            os.pwrite(target, data, start)
        start += len(data)


def mount_image(image: str, target: str, node: str) -> None:
    """Attach ``image`` to a free loop device and mount it on ``target``; ``node``: where a device node may be made."""
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        device = _attach(backing, node)
        try:
            syscalls.mount(node, target, "ext4", syscalls.MS_NOATIME, "noinit_itable")
        finally:
            os.close(device)
            os.unlink(node)
    finally:
        os.close(backing)


def attached(image: Path) -> bool:
    """Whether a loop device still has this image."""
    name = os.path.realpath(image)
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            if device.read_text().strip() == name:
                return True
    return False


def _attach(backing: int, node: str) -> int:
    """A loop device's descriptor, configured; another process may win a free number, then the next one is tried."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    config = bytearray(304)
    struct.pack_into("II", config, 0, backing, 0)
    try:
        for attempt in range(_ATTEMPTS):
            flags = _FLAGS_AUTOCLEAR_DIRECT_IO if attempt % 2 == 0 else 4
            struct.pack_into("I", config, 8 + 52, flags)
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            os.mknod(node, 0o600 | stat.S_IFBLK, os.makedev(_LOOP_MAJOR, number))
            device = os.open(node, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
            except OSError:
                os.close(device)
                os.unlink(node)
                continue
            return device
    finally:
        os.close(control)
    raise OSError(16, f"no loop device could be attached in {_ATTEMPTS} attempts")
