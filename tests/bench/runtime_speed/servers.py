"""What is measured: a runtime forked from a preloaded process, as the node's template does it; one started by
``exec``; and the canned server. Each is a process of its own, ended by pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import canned

from appliance.runtime import supervisor
from appliance.runtime.settings import RuntimeSettings

_PR_SET_PDEATHSIG = 1
UID = 1000 if os.geteuid() == 0 else os.geteuid()


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def child(body: Callable[[], object]) -> int:
    """Fork a process that runs ``body`` and dies with us; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    try:
        body()
    finally:
        os._exit(1)


def end(pid: int) -> None:
    """SIGKILL and reap."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Forked:
    """A supervisor with server (and kernel), forked from this process."""

    def __init__(self, home: Path, *, interpreter: bool = True) -> None:
        self.port, self.interpreter_port = free_port(), free_port()
        settings = RuntimeSettings(
            host="127.0.0.1",
            envd_port=self.port,
            interpreter_port=self.interpreter_port,
            tunnel_port=free_port(),
            interpreter=interpreter,
            etc=home.parent / "etc",
        )
        self.pid = child(lambda: self._run(settings))

    @staticmethod
    def _run(settings: RuntimeSettings) -> NoReturn:
        supervisor.run(settings, None)

    def wait(self, seconds: float = 20.0) -> Forked:
        """Until it answers; with an interpreter, until its kernel is warm."""
        for port, wanted in ((self.port, b" 204 "), (self.interpreter_port, b" 200 ")):
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and wanted not in answer("127.0.0.1", port):
                time.sleep(0.005)
        return self

    def wait_envd(self) -> Forked:
        """Until envd answers."""
        while b" 204 " not in answer("127.0.0.1", self.port):
            time.sleep(0.002)
        return self

    @property
    def server(self) -> int:
        """The pid of the server process: the supervisor's first child."""
        return children(self.pid)[0]

    def stop(self) -> None:
        """End all of it."""
        rest = children(self.pid)
        end(self.pid)  # first, or it would start the server again
        for pid in rest:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Alone:
    """``python -m appliance --role=runtime serve``, from exec; on a loopback address of its own."""

    def __init__(self) -> None:
        self.host = f"127.77.{secrets.randbelow(250) + 1}.{secrets.randbelow(250) + 1}"
        command = [sys.executable, "-m", "appliance", "--role=runtime", "serve", "--host", self.host]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        began = time.perf_counter()
        self._process = subprocess.Popen([*command, "--no-interpreter"], env=environment, stderr=subprocess.DEVNULL)
        while b" 204 " not in answer(self.host, 49983):
            time.sleep(0.002)
        self.seconds = time.perf_counter() - began
        self.pids = [self._process.pid, *children(self._process.pid)]
        self.cpu = sum(cpu_seconds(pid) for pid in self.pids)
        """Seconds of processor until then, of supervisor and server."""

    def stop(self) -> None:
        """SIGTERM, as a container's end does."""
        self._process.terminate()
        self._process.wait(timeout=20)


def start_canned() -> tuple[int, int]:
    """The floor's pid and port."""
    ours, theirs = socket.socketpair()
    pid = child(lambda: asyncio.run(canned.serve(theirs)))
    theirs.close()
    port = int(ours.recv(16))
    ours.close()
    return pid, port


def answer(host: str, port: int) -> bytes:
    """The status line of ``GET /health``, empty when nobody answers."""
    try:
        with socket.create_connection((host, port), timeout=5) as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return sock.recv(64)
    except OSError:
        return b""


def children(pid: int) -> list[int]:
    """All descendants of ``pid``, oldest first."""
    direct = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*direct, *(deeper for each in direct for deeper in children(each))]


def cpu_seconds(pid: int) -> float:
    """Time on a processor of all threads of a process, to the nanosecond (its children not included)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def pss_mib(pids: list[int]) -> float:
    """Proportional set size of processes together."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024
