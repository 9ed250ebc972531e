"""Is a path on a network file system? inotify reports only changes made by this machine there."""

from __future__ import annotations

from typing import Final

from appliance.runtime.filesystem.magic import magic

# f_type values from Linux's magic.h.
_NETWORK: Final = {
    0x6969: "nfs",
    0x517B: "smb",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x65735546: "fuse",
    0x00C36400: "ceph",
    0x01021997: "9p",
    0x5346414F: "afs",
    0x73757245: "coda",
    0x47504653: "gpfs",
    0x0BD00BD0: "lustre",
}


def network_filesystem(path: str) -> str | None:
    """The name of the network file system that holds ``path``; None for a local one or when it cannot be told."""
    return _NETWORK.get(magic(path))
