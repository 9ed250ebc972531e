"""``POST /freeze`` and ``/unfreeze``: pause for nodes without a freezer.

Every process of the sandbox is stopped with SIGSTOP, except the runtime's own line of ancestors (its supervisor, pid
1). Parents are stopped before their children and continued after them, so that no shell ever observes a stopped
child. Processes that were stopped already are left alone by both calls. Scanning repeats until a pass finds nothing
new, because what was running may have forked meanwhile.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.runtime.http import HttpError, Request, respond
from appliance.runtime.state import RuntimeState, SupervisorChannel

_MAX_PASSES = 50
_PF_KTHREAD = 0x00200000  # Linux: include/linux/sched.h


@dataclass(frozen=True, slots=True)
class _Seen:
    pid: int
    parent: int
    state: str
    kernel: bool
    started: int


def _processes(proc: Path = Path("/proc")) -> Iterator[_Seen]:
    for name in os.listdir(proc):
        if name.isdigit() and (seen := _read(proc / name / "stat")) is not None:
            yield seen


def _read(path: Path) -> _Seen | None:
    try:
        text = path.read_bytes()
    except OSError:
        return None
    pid = int(text.partition(b" ")[0])
    rest = text[text.rindex(b")") + 2 :].split()  # the name may contain anything, also parentheses
    return _Seen(pid, int(rest[1]), rest[0].decode(), bool(int(rest[6]) & _PF_KTHREAD), int(rest[19]))


def _spared(everyone: list[_Seen]) -> set[int]:
    """Ourselves, our ancestors and, where the host's pids are visible, kernel threads."""
    parents = {seen.pid: seen.parent for seen in everyone}
    spared = {0, 1} | {seen.pid for seen in everyone if seen.kernel}
    pid = os.getpid()
    while pid not in spared:
        spared.add(pid)
        pid = parents.get(pid, 0)
    return spared


def freeze() -> list[tuple[int, int]]:
    """Stop everything; returns (pid, start time) of what was stopped. Raises ``HttpError`` 503 when it keeps
    forking away.
    """
    stopped: dict[int, int] = {}
    for _ in range(_MAX_PASSES):
        everyone = sorted(_processes(), key=lambda seen: seen.started)
        spared = _spared(everyone)
        fresh = [s for s in everyone if s.pid not in spared and s.state not in "TtZX" and s.pid not in stopped]
        for seen in fresh:
            if _signal(seen.pid, signal.SIGSTOP):
                stopped[seen.pid] = seen.started
        if not fresh:
            return list(stopped.items())
    unfreeze(list(stopped.items()))
    raise HttpError(503, "processes start faster than they can be stopped")


def unfreeze(stopped: list[tuple[int, int]]) -> None:
    """Continue what ``freeze`` stopped, as far as it still exists."""
    now = {seen.pid: seen.started for seen in _processes()}
    for pid, started in sorted(stopped, key=lambda item: item[1], reverse=True):
        if now.get(pid) == started:
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


async def serve_freeze(request: Request, state: RuntimeState, channel: SupervisorChannel | None) -> None:
    """Stop every process; 204. Repeating it stops what has appeared since."""
    known = dict(state.stopped)
    known.update(freeze())
    _remember(list(known.items()), state, channel)
    await respond(request.send, 204)


async def serve_unfreeze(request: Request, state: RuntimeState, channel: SupervisorChannel | None) -> None:
    """Continue every process that ``/freeze`` stopped; 204, also when nothing was."""
    unfreeze(state.stopped)
    _remember([], state, channel)
    await respond(request.send, 204)


def _remember(stopped: list[tuple[int, int]], state: RuntimeState, channel: SupervisorChannel | None) -> None:
    state.stopped = stopped
    if channel is not None:
        channel.save_state(state.snapshot())
