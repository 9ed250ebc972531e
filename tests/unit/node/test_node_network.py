"""The choice of a bridge: two nodes on one box never get the same one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.embedded.node import network
from appliance.embedded.node.network import PodNetwork, box_lock


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Bridges of a made-up box: name → owner."""
    found: dict[str, str] = {}
    monkeypatch.setattr(network, "_alias", found.get)
    return found


def test_a_bridge_of_a_living_directory_is_left_alone(links: dict[str, str], tmp_path: Path) -> None:
    """The first free number is taken, our own is found again, an orphan's is reused, and each has its own network."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    other.mkdir()
    links["appliance0"] = str(other)
    second = PodNetwork.claim("appliance0", "10.213.0.0/16", mine)
    assert (second.bridge, str(second.cidr), second.number) == ("appliance1", "10.214.0.0/16", 1)
    links["appliance1"] = str(mine)
    assert PodNetwork.claim("appliance0", "10.213.0.0/16", mine).bridge == "appliance1"
    other.rmdir()
    assert PodNetwork.claim("appliance0", "10.213.0.0/16", tmp_path / "third").bridge == "appliance0"


def test_an_unmarked_bridge_is_nobodys_to_take(links: dict[str, str], tmp_path: Path) -> None:
    """A bridge between being made and being marked, or made by a person, is not taken over."""
    links["appliance0"] = ""
    assert PodNetwork.claim("appliance0", "10.213.0.0/16", tmp_path).number == 1


def test_the_choice_is_made_by_one_node_at_a_time() -> None:
    """While one holds the lock of the box another waits; it goes on as soon as the first has let go."""
    entered, order = threading.Event(), []

    def second() -> None:
        entered.set()
        with box_lock():
            order.append("second")

    with box_lock():
        thread = threading.Thread(target=second)
        thread.start()
        assert entered.wait(5)
        thread.join(0.05)
        assert thread.is_alive()
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
