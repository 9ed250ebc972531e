"""Supervised children."""

import os
import signal
import sys
from pathlib import Path

import pytest

from appliance.box import children
from appliance.box.children import Child


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children run plain Python code given as their arguments."""
    monkeypatch.setattr(children, "program", lambda: [sys.executable, "-c"])


def child(tmp_path: Path, code: str) -> Child:
    """A child that runs ``code``."""
    return Child("role", [code], log=tmp_path / "role.log", backoff_max=0.2, stop_timeout=0.5)


async def seen(tmp_path: Path, lines: int) -> bool:
    """True once the child's log has ``lines`` lines."""
    log = tmp_path / "role.log"
    return log.exists() and len(log.read_text().splitlines()) >= lines


async def test_a_killed_child_is_started_again(tmp_path: Path, script: None) -> None:
    """After SIGKILL there is a new process of another pid."""
    one = child(tmp_path, "import os,time; print(os.getpid(), flush=True); time.sleep(60)")
    await one.start()
    await one.ready(lambda: seen(tmp_path, 1), 10)
    first = one.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    one.restarts = 0
    while not await seen(tmp_path, 2):
        await __import__("asyncio").sleep(0.01)
    assert one.pid not in (None, first)
    await one.stop()
    assert one.pid is None


async def test_a_child_that_ends_at_start_fails_with_its_last_words(tmp_path: Path, script: None) -> None:
    """The error of a role that cannot start carries what the role said."""
    one = child(tmp_path, "raise SystemExit('no such disk')")
    await one.start()
    with pytest.raises(RuntimeError, match="no such disk"):
        await one.ready(lambda: seen(tmp_path, 99), 10)
    await one.stop()


async def test_a_deaf_child_is_killed(tmp_path: Path, script: None) -> None:
    """A process that ignores SIGTERM is gone after the stop time-out."""
    one = child(
        tmp_path,
        "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
    )
    await one.start()
    await one.ready(lambda: seen(tmp_path, 1), 10)
    await one.stop()
    assert one.pid is None
