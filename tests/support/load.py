"""Clients that use a box as hard as they can, each in a thread, and remember what the box acknowledged.

A client creates, runs a command and code, and kills, over and over. What it may see while a role is down is written in
``excusable``; anything else is kept as a fault. ``Pledges`` is the truth that the box is held against afterwards.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import httpcore
import httpx
from e2b import SandboxException, SandboxUnreachableException
from e2b_code_interpreter import Sandbox

TRANSPORT = (
    httpx.TransportError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    ConnectionError,
    SandboxUnreachableException,  # how the SDK words a transport error on the way to a sandbox
)
OUTAGE_CODES = ("429", "500", "502", "503", "504")


def excusable(error: BaseException | None) -> bool:
    """Whether this may happen to a client while a role is away: a transport error, a 5xx, or \"come again\"."""
    if error is None:
        return False
    if isinstance(error, TRANSPORT) or excusable(error.__cause__ or error.__context__):
        return True
    return isinstance(error, SandboxException) and str(error).startswith(OUTAGE_CODES)


@dataclass
class Pledges:
    """What clients were told, by sandbox id. Threads share it."""

    alive: dict[str, str] = field(default_factory=dict)
    """Acknowledged creates that no client asked to kill → what the client left in its kernel."""
    unanswered: int = 0
    """Creates that failed: a role that died may have delivered a sandbox whose id never arrived."""
    delivered: Counter[str] = field(default_factory=Counter)
    """How often each id was handed out."""
    faults: list[str] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Clients:
    """Threads at work between ``__enter__`` and ``__exit__``."""

    def __init__(self, count: int, *, keep_every: int) -> None:
        self.pledges = Pledges()
        self._keep_every = keep_every
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=90)
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        assert not stuck, f"clients that never came back: {stuck}"

    def wait_for_rounds(self, more: int, timeout: float = 60) -> None:
        """Wait until the clients have completed that many more rounds: the box serves."""
        goal, deadline = self.pledges.rounds + more, time.monotonic() + timeout
        while self.pledges.rounds < goal:
            assert time.monotonic() < deadline, f"no {more} rounds in {timeout} s; excused {self.pledges.excused}"
            time.sleep(0.05)

    def _work(self, number: int) -> None:
        turn = number
        while not self._stop.is_set():
            turn += 1
            try:
                self._round(keep=turn % self._keep_every == 0)
            except Exception as error:
                self._note(error)
                time.sleep(0.1)  # a client that meets an outage does not hammer

    def _note(self, error: Exception) -> None:
        with self.pledges.lock:
            if excusable(error):
                self.pledges.excused[type(error).__name__] += 1
            else:
                self.pledges.faults.append(f"{type(error).__module__}.{type(error).__name__}: {error}"[:400])

    def _round(self, *, keep: bool) -> None:
        try:
            sandbox = Sandbox.create(template="code-interpreter", timeout=600, request_timeout=30)
        except Exception:
            with self.pledges.lock:
                self.pledges.unanswered += 1
            raise
        with self.pledges.lock:
            self.pledges.delivered[sandbox.sandbox_id] += 1
            self.pledges.alive[sandbox.sandbox_id] = ""
        try:
            self._use(sandbox)
        finally:
            if not keep:
                self._kill(sandbox)
        with self.pledges.lock:
            self.pledges.rounds += 1

    def _use(self, sandbox: Sandbox) -> None:
        assert sandbox.commands.run("echo hello", request_timeout=20).stdout == "hello\n"
        mark = f"mark-{sandbox.sandbox_id}"
        sandbox.run_code(f"mark = {mark!r}", request_timeout=20)
        shown = sandbox.run_code("mark", request_timeout=20)
        assert shown.error is None, shown.error
        assert mark in (shown.text or ""), f"expected {mark}, the kernel has {shown.text}"
        with self.pledges.lock:
            self.pledges.alive[sandbox.sandbox_id] = mark

    def _kill(self, sandbox: Sandbox) -> None:
        """Ask until the answer arrives: killed now, or gone because an earlier request was carried out."""
        deadline = time.monotonic() + 60
        while True:
            try:
                sandbox.kill(request_timeout=20)
            except Exception as error:
                if not excusable(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                break
        with self.pledges.lock:
            self.pledges.alive.pop(sandbox.sandbox_id)
