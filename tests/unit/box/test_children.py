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


def child(tmp_path: Path, code: str, *, cleans_up: bool = False, stop_timeout: float = 0.5) -> Child:
    """A child that runs ``code``."""
    log = tmp_path / "role.log"
    return Child("role", [code], log=log, backoff_max=0.2, stop_timeout=stop_timeout, cleans_up=cleans_up)


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


CLEANS = """
import signal, sys, time
def end(*_): print('cleaned', flush=True); sys.exit(0)
print('begun', flush=True)
signal.signal(signal.SIGTERM, end)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
time.sleep(60)
"""


async def test_a_child_that_cleans_up_does_so_however_early_it_is_stopped(tmp_path: Path, script: None) -> None:
    """SIGTERM right after the start waits until the child handles it: its end is the orderly one."""
    one = child(tmp_path, CLEANS, cleans_up=True, stop_timeout=20)
    await one.start()
    await one.stop()
    assert (tmp_path / "role.log").read_text().endswith("cleaned\n")


async def test_a_child_that_cleans_up_is_started_anew_for_it(tmp_path: Path, script: None) -> None:
    """A child that is down when the stop comes (killed a moment before) is run once more for its orderly end."""
    one = child(tmp_path, CLEANS, cleans_up=True, stop_timeout=20)
    await one.start()
    await one.ready(lambda: seen(tmp_path, 1), 10)
    assert one.pid is not None
    os.kill(one.pid, signal.SIGKILL)
    await one._process.wait()  # type: ignore[union-attr]  # the moment between its death and its restart
    await one.stop()
    assert (tmp_path / "role.log").read_text().endswith("cleaned\n")


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
