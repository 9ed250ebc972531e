"""The outside's end of the node's pid 1 (``init.py``)."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any


class Control:
    """Starts, signals and looks at components. Raises ``OSError`` when the node is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, **wish: Any) -> dict[str, Any]:
        """One request."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self._path))
            connection.sendall(json.dumps(wish).encode() + b"\n")
            answer: dict[str, Any] = json.loads(connection.makefile().readline())
        if "error" in answer:
            raise RuntimeError(f"{wish}: {answer['error']}")
        return answer

    def start(self, name: str, argv: list[str]) -> None:
        """Start a component."""
        self.ask(start=name, argv=argv)

    def exit_code(self, name: str) -> int | None:
        """How it ended; None while it runs."""
        code: int | None = self.ask(state=name)["exit"]
        return code

    def stop(self, name: str, number: int = signal.SIGTERM, *, timeout: float = 60.0) -> None:
        """Signal it and wait for its end. Raises ``TimeoutError``."""
        self.ask(signal=name, number=int(number))
        deadline = time.monotonic() + timeout
        while self.exit_code(name) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} did not end within {timeout:g} s of signal {number}")
            time.sleep(0.02)
