"""Two boxes that are started at once on the same addresses: one runs, the other says what is taken and ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from boxes import RunningBox, free_port
from waiting import eventually

pytestmark = pytest.mark.box


def test_one_of_two_boxes_on_the_same_addresses_ends_and_names_the_flag(
    start_box: Callable[..., RunningBox], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Neither takes the other's API server for its own, nor tries for ever."""
    taken = ("--listen", f"127.0.0.1:{free_port()}", "--apiserver-listen", f"127.0.0.1:{free_port()}")
    both = [start_box(tmp_path_factory.mktemp("box"), pool=0, wait=False, extra=taken) for _ in range(2)]
    eventually(lambda: any(one.process.poll() is not None for one in both), 60)
    ended, lives = sorted(both, key=lambda one: one.process.poll() is None)
    assert ended.process.wait(10) == 1
    assert "cannot be used: Address already in use; choose another with --" in ended.output()
    assert "ready." not in ended.output()
    lives.wait_ready()
