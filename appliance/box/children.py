"""A child process that is kept alive: started, watched, restarted with back-off, stopped in order.

Children are the same file with another ``--role``. Each asks the kernel to be killed when the supervisor dies
(``appliance.cli`` calls :func:`die_with_parent` first thing), so a ``kill -9`` of the supervisor leaves no role behind;
sandboxes are not children of roles and live on until the next start adopts them.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
PARENT_VARIABLE = "APPLIANCE_SUPERVISOR_PID"
STEADY_SECONDS = 10.0
"""A child that ran this long is not crash-looping; its back-off starts over."""


def program() -> list[str]:
    """The argument vector that starts this very product again."""
    archive = os.environ.get("APPLIANCE_PYZ")
    return [sys.executable, archive] if archive else [sys.executable, "-m", "appliance"]


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the supervisor named in the environment dies; do nothing without one."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died between fork and prctl
        os.kill(os.getpid(), signal.SIGKILL)


class Child:
    """One supervised role.

    Args:
        name: the role, used in messages and as the log file's name.
        arguments: what follows the program's name.
        log: file that receives standard output and error, appended.
        backoff_max: seconds; the longest pause between two restarts.
        stop_timeout: seconds between SIGTERM and SIGKILL.
        cleans_up: its orderly end removes things from the machine. Such a child is started with SIGTERM blocked (it
            unblocks the signal once it handles it), and :meth:`stop` starts it anew for that end if it is down.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path,
        backoff_max: float,
        stop_timeout: float,
        cleans_up: bool = False,
    ) -> None:
        self.name = name
        self._arguments = list(arguments)
        self._log = log
        self._backoff_max = backoff_max
        self._stop_timeout = stop_timeout
        self._cleans_up = cleans_up
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._keeper: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The pid of the running process, or None."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start the process and keep it running until :meth:`stop`."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep-{self.name}")

    async def ready(self, probe: Callable[[], Awaitable[bool]], timeout: float) -> None:
        """Wait until ``probe`` answers True.

        Raises:
            RuntimeError: the process ended first or ``timeout`` seconds passed; the message carries its last log lines.
        """
        deadline = time.monotonic() + timeout
        while not await probe():
            if self.restarts:
                raise RuntimeError(f"{self.name} ended at start-up:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} was not ready after {timeout:.0f} s:\n{self.tail()}")
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the stop time-out; returns when the process is gone."""
        self._stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is not None and self._process.returncode is not None and self._cleans_up:
            await self._spawn()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self._stop_timeout)
        except TimeoutError:
            logger.warning("%s did not stop within %.0f s; killing it", self.name, self._stop_timeout)
            process.kill()
            await process.wait()

    def tail(self, lines: int = 15) -> str:
        """The last lines of the role's log."""
        try:
            return "\n".join("  " + line for line in self._log.read_text(errors="replace").splitlines()[-lines:])
        except OSError as error:
            return f"  ({error})"

    async def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *program(),
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
                start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor alone
                preexec_fn=_block_sigterm if self._cleans_up else None,
            )

    async def _keep(self) -> None:
        pause = 0.1
        while True:
            assert self._process is not None
            started = time.monotonic()
            code = await self._process.wait()
            if self._stopping:
                return
            pause = 0.1 if time.monotonic() - started > STEADY_SECONDS else min(pause * 2, self._backoff_max)
            logger.error("%s ended with %s; restarting in %.1f s (log: %s)", self.name, _how(code), pause, self._log)
            self.restarts += 1
            await asyncio.sleep(pause)
            await self._spawn()


def _block_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
