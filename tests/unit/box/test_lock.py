"""The lock of a data directory."""

import os
from pathlib import Path

import pytest

from appliance.box import lock


def test_second_holder_is_refused_with_the_first_ones_pid(tmp_path: Path) -> None:
    """While the lock is held, another attempt names the holder's pid and the directory."""
    path = tmp_path / "lock"
    with lock.hold(path), pytest.raises(lock.AlreadyRunning, match=rf"pid {os.getpid()}\) is running on {tmp_path}"):
        lock.hold(path).__enter__()


def test_holder_names_the_pid_only_while_held(tmp_path: Path) -> None:
    """``holder`` answers the pid during the block and nothing before or after it."""
    path = tmp_path / "lock"
    assert lock.holder(path) is None
    with lock.hold(path):
        assert lock.holder(path) == os.getpid()
    assert lock.holder(path) is None


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    """The descriptor is close-on-exec, so an orphaned role cannot keep the directory locked."""
    with lock.hold(tmp_path / "lock"):
        held = [fd for fd in os.listdir("/proc/self/fd") if _target(fd) == str(tmp_path / "lock")]
        assert held
        assert not any(os.get_inheritable(int(fd)) for fd in held)


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""
