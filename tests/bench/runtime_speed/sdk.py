"""The rows through the unmodified Python SDK, against the runtime and against the canned server alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from canned import SIZE


@contextmanager
def debugging(port: int) -> Iterator[None]:
    """The SDK's debug mode, in which it makes no API call, directed at a port."""
    values = {"E2B_DEBUG": "true", "E2B_SANDBOX_URL": f"http://127.0.0.1:{port}", "E2B_API_KEY": "e2b_" + "0" * 40}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def timed(call: Callable[[], Any], times: int, warm: int = 2) -> list[float]:
    """Spans of a call."""
    spans = []
    for index in range(times + warm):
        began = time.perf_counter()
        call()
        if index >= warm:
            spans.append(time.perf_counter() - began)
    return spans


def commands(port: int, times: int) -> list[float]:
    """``commands.run("true")``."""
    from e2b import Sandbox

    with debugging(port):
        sandbox = Sandbox.create()
        return timed(lambda: sandbox.commands.run("true"), times)


def read(port: int, times: int) -> list[float]:
    """``files.read`` of 100 MiB."""
    from e2b import Sandbox

    def call() -> None:
        assert len(sandbox.files.read("big", format="bytes")) == SIZE

    with debugging(port):
        sandbox = Sandbox.create()
        sandbox.files.write("big", bytes(SIZE), use_octet_stream=True)
        return timed(call, times, 1)


def run_code(port: int, times: int) -> list[float]:
    """``run_code("1")``."""
    from e2b_code_interpreter import Sandbox

    def call() -> None:
        assert sandbox.run_code("1").text == "1"

    with debugging(port):
        sandbox = Sandbox.create()
        return timed(call, times)


def first_cell(port: int) -> float:
    """The first ``run_code("1")`` of a sandbox nobody has used, by a client that has its connection already."""
    from e2b_code_interpreter import Sandbox

    with debugging(port):
        sandbox = Sandbox.create()
        sandbox._client.get(f"http://127.0.0.1:{port}/health").read()
        began = time.perf_counter()
        assert sandbox.run_code("1").text == "1"
        return time.perf_counter() - began
