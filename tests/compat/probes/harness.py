"""What the Python probes share. Runs inside an old release's own environment: standard library only.

A probe is one coroutine function for one feature. It is run with the release's synchronous classes and with its
asynchronous ones: ``call`` awaits what has to be awaited. It raises ``Absent`` when the release has no such feature,
and anything else when the feature does not work. One line of JSON is printed before a probe and one after it, so that
the driver can tell which one hung.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

TEMPLATE = "code-interpreter"
PROBES: dict[str, Callable[..., Awaitable[None]]] = {}
"""Feature → its probe, in the order of the table."""


_LATER = re.compile(r"501: [a-z ]+ are not supported by this server yet")


class Absent(Exception):
    """The release does not have the feature."""


def probe(feature: str) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]:
    """Register the probe of ``feature``, a row of the table."""

    def register(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        PROBES[feature] = function
        return function

    return register


async def call(value: Any) -> Any:
    """The result of a call to the release, synchronous or not."""
    return await value if inspect.isawaitable(value) else value


def need(owner: Any, *names: str) -> None:
    """Raise ``Absent`` unless ``owner`` has these attributes."""
    for name in names:
        if not hasattr(owner, name):
            raise Absent(name)


def takes(function: Any, *names: str) -> None:
    """Raise ``Absent`` unless ``function`` has these parameters."""
    parameters = inspect.signature(function).parameters
    for name in names:
        if name not in parameters:
            raise Absent(name)


def has_key(shape: Any, *names: str) -> None:
    """Raise ``Absent`` unless this ``TypedDict`` (None: there is none) has these keys: others would be ignored."""
    for name in names:
        if name not in getattr(shape, "__annotations__", {}):
            raise Absent(name)


async def until(check: Callable[[], Any], seconds: float = 90) -> None:
    """Wait until ``check`` (synchronous or not) is true."""
    end = time.monotonic() + seconds
    while not await call(check()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s")
        await asyncio.sleep(0.1)


def fetch(url: str, **request: Any) -> tuple[int, bytes]:
    """One plain HTTP request, as a program without the SDK makes it."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **request), timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def outcome(error: BaseException | None) -> str:
    """``ok``, ``absent``, or what happened in one line that is the same in every run."""
    if error is None:
        return "ok"
    if isinstance(error, Absent):
        return "absent"
    text = " ".join(str(error).split()) or "assertion failed"
    if refused := _LATER.search(text):
        return refused[0]
    text = re.sub(r"\bi[a-z0-9]{20}\b", "ID", text)
    return (text if isinstance(error, AssertionError) else f"{type(error).__name__}: {text}")[:240]


async def run(mode: str, kit: Any, only: str) -> None:
    """Every probe in turn; what one leaves behind must not disturb the next."""
    for feature, function in PROBES.items():
        if only not in feature:
            continue
        print(json.dumps({"mode": mode, "feature": feature}), flush=True)
        error: BaseException | None = None
        start = time.monotonic()
        try:
            await function(kit)
        except Exception as raised:
            error = raised
            if only:
                import traceback

                traceback.print_exc()
        line = {"mode": mode, "feature": feature, "outcome": outcome(error), "seconds": time.monotonic() - start}
        print(json.dumps(line), flush=True)


def main(kits: dict[str, Callable[[], Any]]) -> None:
    """Run all probes with every kit (mode → maker); an argument selects features by a part of their name."""

    async def one(mode: str, make: Callable[[], Any]) -> None:
        kit = make()
        await kit.open()
        try:
            await run(mode, kit, sys.argv[1] if len(sys.argv) > 1 else "")
        finally:
            await kit.close()

    for mode, make in kits.items():
        if mode != "async" or os.environ.get("COMPAT_MODES") != "sync":
            asyncio.run(one(mode, make))
