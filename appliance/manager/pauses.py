"""Pausing and resuming: the patches that ask for it, and the waits for what the controller makes of them.

A pause saves memory and files, or files only (``memory: false``); which one is asked for stands in the Sandbox's
annotation ``PAUSE_CONTENTS``, written with ``spec.paused`` in one patch, so that the controller's own timer does the
same for a sandbox made with ``autoPauseMemory: false``. What it was is read from the condition the controller leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from appliance.api import times
from appliance.api.labels import E2B_LIFECYCLE, PAUSE_CONTENTS
from appliance.api.structs import Sandbox
from appliance.manager import deadlines, options
from appliance.manager.errors import Fault
from appliance.manager.metadata import retention_annotation
from appliance.manager.options import options_of
from appliance.manager.roster import Entry, sandbox_id_of
from appliance.manager.runstate import (
    FILESYSTEM,
    FULL,
    Run,
    asked_mode,
    is_paused,
    is_ready,
    pause_failure,
    pause_mode,
    run_of,
)
from appliance.manager.transitions import Transitions

PAUSE_WAIT = 60.0
"""Seconds a pause may take before the client is told that it takes longer."""
RESUME_WAIT = 120.0
"""Seconds a resume may take: without the memory the sandbox boots, and with the strategy Stop a new pod is made."""

RESUME_TRIES = 3
"""Pauses that a resume waits for, when somebody pauses each time it may begin."""


class Pauses:
    """Each call raises Fault (404, 409, 500, 503, 504) or KubeError."""

    def __init__(self, moves: Transitions, *, now: Callable[[], datetime]) -> None:
        self._moves = moves
        self._now = now

    async def pause(self, entry: Entry, *, retention: timedelta | None = None, memory: bool = True) -> None:
        """Pause and wait until it is done; joins a pause of the same kind under way. 409 when paused or resuming.

        ``retention``: how long it is kept while paused, from now on; None leaves what it was made with.
        ``memory`` False keeps files only. A pause that the controller reports as failed is taken back, and raised as
        Fault 500 with its reason.
        """
        before, mode_before = deadlines.timers_of(entry.sandbox), asked_mode(entry.sandbox)
        patch = partial(self._pause_patch, retention=retention, mode=FULL if memory else FILESYSTEM)
        sandbox = await self._moves.change(entry.sandbox, patch)
        asked = sandbox.meta.generation
        sandbox = await self._settled(sandbox, is_paused)
        reason = pause_failure(sandbox, asked)
        if reason is not None and not is_paused(sandbox):
            notes = {"metadata": {"annotations": contents(mode_before)}}
            await self._moves.change(sandbox, lambda *_: {**notes, "spec": {"paused": False, **before.patch()}})
            raise Fault(500, f'Sandbox "{entry.sandbox_id}" could not be paused: {reason}')

    async def forget_memory(self, entry: Entry) -> None:
        """Make a paused sandbox one that was paused without its memory, so that the next resume boots it."""

        def decide(sandbox: Sandbox, run: Run) -> Mapping[str, Any] | None:
            if run is not Run.PAUSED or pause_mode(sandbox) == FILESYSTEM:
                return None
            return {"metadata": {"annotations": {PAUSE_CONTENTS: FILESYSTEM}}}

        await self._pause_over(entry)
        sandbox = await self._moves.change(entry.sandbox, decide)
        await self._settled(sandbox, _without_memory)

    async def resume(self, entry: Entry, timeout: float, *, auto_pause: bool | None = None) -> tuple[Sandbox, bool]:
        """Resume, end in ``timeout`` seconds from now, and wait until it is ready; joins a resume under way.

        A pause under way is waited for, also one that begins meanwhile (409 after ``RESUME_TRIES``). ``auto_pause``
        replaces the setting of the creation when given. True: somebody else had resumed it, with a deadline of theirs.
        """
        joined = False

        def decide(sandbox: Sandbox, run: Run) -> Mapping[str, Any] | None:
            nonlocal joined
            joined = run in (Run.RUNNING, Run.RESUMING)
            return None if joined else self._resume_patch(sandbox, run, timeout, auto_pause)

        for _ in range(RESUME_TRIES):
            await self._pause_over(entry)
            with suppress(_Pausing):
                sandbox = await self._moves.change(entry.sandbox, decide)
                return await self._moves.wait(sandbox, is_ready, RESUME_WAIT, "resume"), joined
        raise Fault(409, f'Sandbox "{entry.sandbox_id}" is being paused again and again, try again')

    async def _pause_over(self, entry: Entry) -> None:
        """Wait for the end of a pause that is under way by now; what ``entry`` knows may be older than that."""
        sandbox = self._moves.newest(entry.sandbox)
        if run_of(sandbox, self._now()) is Run.PAUSING:
            await self._moves.wait(sandbox, _no_longer_pausing, PAUSE_WAIT, "pause")

    async def _settled(self, sandbox: Sandbox, done: Callable[[Sandbox], bool]) -> Sandbox:
        """Once it is done, or has failed."""
        failed = partial(pause_failure, since=sandbox.meta.generation)
        return await self._moves.wait(sandbox, lambda one: done(one) or failed(one) is not None, PAUSE_WAIT, "pause")

    def _pause_patch(
        self, sandbox: Sandbox, run: Run, *, retention: timedelta | None, mode: str
    ) -> Mapping[str, Any] | None:
        if run is Run.PAUSING and asked_mode(sandbox) == mode:
            return None
        if run is not Run.RUNNING:
            other = "without" if mode == FULL else "with"
            words = {Run.PAUSED: "paused already", Run.PAUSING: f"being paused {other} its memory"}
            raise Fault(409, f'Sandbox "{sandbox_id_of(sandbox)}" is {words.get(run, "being resumed")}')
        timers = deadlines.paused(self._now(), sandbox, options_of(sandbox), retention)
        notes: dict[str, str | None] = {**retention_annotation(retention)}
        if asked_mode(sandbox) != mode:
            notes |= contents(mode)
        meta = {"metadata": {"annotations": notes}} if notes else {}
        return {**meta, "spec": {"paused": True, **timers.patch()}}

    def _resume_patch(self, sandbox: Sandbox, run: Run, timeout: float, auto_pause: bool | None) -> Mapping[str, Any]:
        if run is not Run.PAUSED:
            raise _Pausing
        known = options_of(sandbox)
        fields: dict[str, Any] = {"started_at": times.format(self._now(), micro=True), "present": True}
        if auto_pause is not None:
            fields["auto_pause"] = auto_pause
        text = options.encode(msgspec.structs.replace(known, **fields))
        notes = {E2B_LIFECYCLE: text, **contents(FULL if known.auto_pause_memory else FILESYSTEM)}
        timers = deadlines.of_run(sandbox, self._now(), timeout, auto_pause)
        return {"metadata": {"annotations": notes}, "spec": {"paused": False, **timers.patch()}}


class _Pausing(Exception):
    """The sandbox is being paused (again)."""


def contents(mode: str) -> dict[str, str | None]:
    """The annotation that says what the next pause keeps."""
    return {PAUSE_CONTENTS: FILESYSTEM if mode == FILESYSTEM else None}


def _no_longer_pausing(sandbox: Sandbox) -> bool:
    return is_paused(sandbox) or not sandbox.spec.paused


def _without_memory(sandbox: Sandbox) -> bool:
    return not is_paused(sandbox) or pause_mode(sandbox) == FILESYSTEM
