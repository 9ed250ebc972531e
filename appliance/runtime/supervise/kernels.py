"""Kernel processes on the supervisor's side: start, signal, note the end.

A kernel is either forked from this process (the preloaded Python kernel) or executed (any other language). Each leads
its own session and process group, so that an interrupt reaches the children of a cell as well. Its sockets live in a
directory that only its account can enter and that goes with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import Final

from appliance.runtime.supervise import child, title
from appliance.runtime.supervise.messages import KernelRecord, StartKernel
from appliance.runtime.users import User, Users

OOM_SCORE_ADJ: Final = 100
"""Kernels, like commands, are ended for want of memory before the runtime is."""
MAX_KERNELS: Final = 256
"""Kernel records of one sandbox; a server that asks for more gets an error."""


class KernelTable:
    """Every kernel that was started and whose end has not been acknowledged yet."""

    def __init__(self, etc: Path) -> None:
        self._users = Users(etc)
        self.records: dict[str, KernelRecord] = {}
        self._by_pid: dict[int, str] = {}

    def start(self, request: StartKernel) -> int:
        """Start a kernel and return its pid.

        Raises ``ValueError`` (duplicate id, too many, no such directory), ``UnknownUser``, ``OSError``.
        """
        if request.id in self.records:
            raise ValueError(f"kernel {request.id} exists already")
        if len(self.records) >= MAX_KERNELS:
            raise ValueError(f"at most {MAX_KERNELS} kernels may exist")
        if not os.path.isdir(request.cwd):
            raise ValueError(f"cwd: {request.cwd} is not a directory")
        try:
            account = None if request.user is None else self._users.get(request.user)
            _make_directory(request, account)
            pid = child.fork(lambda: _kernel(request, account))
        except (OSError, LookupError):
            _remove_directory(request)
            raise
        self.records[request.id] = KernelRecord(start=request, pid=pid, memo=request.memo)
        self._by_pid[pid] = request.id
        return pid

    def signal(self, kernel_id: str, signum: int) -> None:
        """Signal the kernel's process group; a kernel that is gone is ignored."""
        record = self.records.get(kernel_id)
        if record is None or record.status is not None:
            return
        # Between fork and setsid the group does not exist yet: then the process itself is meant.
        try:
            os.killpg(record.pid, signum)
        except ProcessLookupError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signum)

    def remember(self, kernel_id: str, memo: bytes) -> None:
        """Keep a new memo; an unknown kernel is ignored (it ended meanwhile)."""
        if kernel_id in self.records:
            self.records[kernel_id].memo = memo

    def forget(self, kernel_id: str) -> None:
        """Drop the record of a kernel that has ended."""
        record = self.records.get(kernel_id)
        if record is not None and record.status is not None:
            del self.records[kernel_id]

    def ended(self, pid: int, status: int) -> str | None:
        """Note that process ``pid`` was reaped; returns the kernel's id when it was one."""
        kernel_id = self._by_pid.pop(pid, None)
        if kernel_id is None:
            return None
        record = self.records[kernel_id]
        record.status = status
        # What the cell's code left in the kernel's own group goes with it, as with a closed terminal.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _remove_directory(record.start)
        return kernel_id

    def signal_all(self, signum: int) -> None:
        """Signal every living kernel."""
        for kernel_id in list(self.records):
            self.signal(kernel_id, signum)

    @property
    def living(self) -> int:
        """How many kernels have not been reaped."""
        return len(self._by_pid)


def _kernel(request: StartKernel, account: User | None) -> None:
    os.setsid()
    child.reset_signals()
    child.close_descriptors()
    child.die_first(OOM_SCORE_ADJ)
    child.become(account)
    child.die_with_parent()
    os.chdir(request.cwd)
    if request.argv is not None:
        child.exec_or_exit(request.argv, request.env)
    child.be_python()
    child.replace_environment(request.env)
    title.show("appliance: python kernel", "python-kernel")
    from appliance.runtime.interpreter.pykernel.main import run

    run(request.connection)


def _make_directory(request: StartKernel, account: User | None) -> None:
    directory = Path(request.directory)
    directory.parent.mkdir(mode=0o711, exist_ok=True, parents=True)
    directory.mkdir(mode=0o700)
    made = [directory]
    if request.connection_file is not None:
        made.append(directory / "connection.json")
        made[-1].touch(mode=0o600)
        made[-1].write_bytes(request.connection_file)
    if account is not None and os.geteuid() == 0:
        for path in made:
            os.chown(path, account.uid, account.gid)


def _remove_directory(request: StartKernel) -> None:
    directory = Path(request.directory)
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):  # the last one takes the common directory with it
        directory.parent.rmdir()
