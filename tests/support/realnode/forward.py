"""``kubectl port-forward`` that stays: kubectl ends as soon as one connection is reset; here it begins anew."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time

_CHUNK = 1 << 16
_PATIENCE = 30.0
"""Seconds in which a connection through kubectl must succeed."""


class Forward:
    """A loopback ``address``; what connects to it goes through the command, which is started whenever it does not run.

    The command prints first that it forwards from 127.0.0.1:PORT, as ``kubectl port-forward NAME :PORT`` does.
    """

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no longer and end the command."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            self._end()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            try:
                far = self._dial()
            except OSError:
                return
            with far:
                back = threading.Thread(target=_pump, args=(far, near), daemon=True)
                back.start()
                _pump(near, far)
                back.join()

    def _dial(self) -> socket.socket:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self._running()))
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _running(self) -> int:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
                assert self._process.stdout is not None
                line = self._process.stdout.readline()  # Forwarding from 127.0.0.1:PORT -> 8080
                if not line:
                    raise ConnectionError(f"{' '.join(self._command)} ended")
                self._port = int(line.split()[2].rpartition(":")[2])
            return self._port

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Everything from one side to the other, then the end; a broken side breaks the other."""
    try:
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
