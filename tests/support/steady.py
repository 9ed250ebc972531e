"""Clients that hold sandboxes and use them without a pause, each call an SDK call that must not fail.

Unlike ``load.Clients`` nothing is excused: whoever restarts parts of the control plane under these clients finds every
failed call in ``failures``. Threads; each holds one sandbox, made before and killed after.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from e2b_code_interpreter import Sandbox

CALL_TIMEOUT = 60.0


class Steady:
    """Clients at work between ``__enter__`` and ``__exit__``. ``control=False`` leaves calls of the control API out."""

    def __init__(self, count: int, *, control: bool = True, template: str = "code-interpreter") -> None:
        self.failures: list[str] = []
        self.calls = 0
        self._control = control
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._sandboxes = [Sandbox.create(template=template, timeout=1200, request_timeout=120) for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._work, args=(sandbox, number), daemon=True)
            for number, sandbox in enumerate(self._sandboxes)
        ]

    def __enter__(self) -> Steady:
        for sandbox, number in zip(self._sandboxes, range(len(self._sandboxes)), strict=True):
            sandbox.run_code(f"mark = {number}")
        for thread in self._threads:
            thread.start()
        self.wait_for_calls(4 * len(self._threads))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=120)
        for sandbox in self._sandboxes:
            sandbox.kill(request_timeout=120)
        assert not any(thread.is_alive() for thread in self._threads), "a client never came back"

    def wait_for_calls(self, more: int, timeout: float = 120.0) -> None:
        """Until that many more calls have succeeded."""
        goal, deadline = self.calls + more, time.monotonic() + timeout
        while self.calls < goal:
            assert time.monotonic() < deadline, f"no {more} calls in {timeout:g} s; failures: {self.failures[-5:]}"
            time.sleep(0.05)

    def _work(self, sandbox: Sandbox, number: int) -> None:
        deeds: list[tuple[str, Callable[[], object], object]] = [
            (
                "command",
                lambda: sandbox.commands.run("sleep 0.3; echo hi", request_timeout=CALL_TIMEOUT).stdout,
                "hi\n",
            ),
            ("code", lambda: sandbox.run_code("mark", request_timeout=CALL_TIMEOUT).text, str(number)),
            ("files", lambda: _file(sandbox), "text"),
        ]
        if self._control:
            deeds.append(("info", lambda: sandbox.get_info(request_timeout=CALL_TIMEOUT).state.value, "running"))
        while not self._stop.is_set():
            for name, deed, wanted in deeds:
                self._one(name, deed, wanted)

    def _one(self, name: str, deed: Callable[[], object], wanted: object) -> None:
        began = time.time()
        try:
            answer = deed()
        except Exception as error:
            with self._lock:
                self.failures.append(f"{name} at {began:.1f}: {type(error).__name__}: {error}"[:300])
            time.sleep(0.2)
            return
        with self._lock:
            self.calls += 1
            if answer != wanted:
                self.failures.append(f"{name}: expected {wanted!r}, got {answer!r}")


def _file(sandbox: Sandbox) -> str:
    sandbox.files.write("/tmp/steady", "text", request_timeout=CALL_TIMEOUT)
    return sandbox.files.read("/tmp/steady", request_timeout=CALL_TIMEOUT)
