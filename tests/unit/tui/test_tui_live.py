"""The live source over a fake API server: real informers, real probe, and what it says when things go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from decks import T0, FixedSource, busy_changes, claim, pool, sandbox
from fake_cluster import FakeServer

from appliance.api import kinds
from appliance.config import KubeSettings
from appliance.kube import errors
from appliance.kube.cluster import Cluster
from tui.feed.live import LiveSource
from tui.feed.record import Recorder, read_recording
from tui.feed.replay import Player
from tui.main import run
from tui.model.change import WATCHED
from tui.once import as_json, as_text
from tui.settings import TuiSettings
from tui.view.cells import ASCII, PLAIN
from tui.view.commands import listing

SANDBOXES = "/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxes"
SETS = "/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxsets"
CLAIMS = "/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxclaims"


@asynccontextmanager
async def following(server: FakeServer, **options: object) -> AsyncIterator[LiveSource]:
    """A live source on that server, past its first lists."""
    source = LiveSource(KubeSettings(), cluster=server.cluster(), clock=lambda: T0, **options)  # type: ignore[arg-type]
    task = asyncio.create_task(source.run())
    try:
        await source.synced(5)
        await source.probed(5)
        yield source
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(source: LiveSource, condition: object) -> None:
    """Let the loop run until it holds."""
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0)


def fill(server: FakeServer) -> None:
    """A pool with two members, and a claim."""
    server.create(SETS, msgspec.to_builtins(pool("py", 2)))
    for name in ("py-1", "py-2"):
        server.create(SANDBOXES, msgspec.to_builtins(sandbox(name)))
        server.patch(f"{SANDBOXES}/{name}/status", {"status": msgspec.to_builtins(sandbox(name).status)})
    server.create(CLAIMS, msgspec.to_builtins(claim("c", at=T0)))


async def test_a_live_world_equals_its_replay(tmp_path: Path) -> None:
    """What informers fed the live world with, written and read back, makes the same world."""
    server = FakeServer()
    fill(server)
    with Recorder(tmp_path / "r.gz") as recorder:
        async with following(server, tap=recorder) as source:
            server.delete(f"{SANDBOXES}/py-2", {})
            server.patch(f"{SETS}/py", {"spec": {"replicas": 9}})
            await until(source, lambda: len(source.world.sandboxes) == 1)
            await until(source, lambda: source.world.sets["default", "py"].spec.replicas == 9)
            live = source.world
    player = Player(read_recording(tmp_path / "r.gz")[1], "", lambda: 0.0)
    player.seek(player.end)
    assert player.world.digest() == live.digest()


async def test_the_watches_are_well_when_the_server_answers() -> None:
    """Every kind is live and has a lag, and the source is ready."""
    async with following(FakeServer()) as source:
        assert [one.state for one in source.health()] == ["live"] * len(WATCHED)
        assert all(one.lag is not None for one in source.health())
        assert source.ready


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (errors.Forbidden(403, "Forbidden", "no"), "forbidden"),
        (errors.NotFound(404, "NotFound", "no"), "missing"),
        (errors.Unauthorized(401, "Unauthorized", "expired"), "unauthorized"),
        (errors.Unreachable("refused"), "lost"),
        (errors.ServerError(500, "", "oops"), "lost"),
    ],
)
async def test_the_probe_says_what_the_watch_cannot(
    error: errors.KubeError, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way a cluster can refuse is told apart, with its reason, and since when."""

    async def refuse(*_: object, **__: object) -> None:
        raise error

    cluster = FakeServer().cluster()
    source = LiveSource(KubeSettings(), cluster=cluster, clock=lambda: T0)
    monkeypatch.setattr(Cluster, "list", refuse)
    await source.probe(cluster, WATCHED[0])
    assert source.health()[0].state == state
    assert source.health()[0].since == T0


async def test_unusable_credentials_are_told_and_tried_again(tmp_path: Path) -> None:
    """A kubeconfig that is not there is shown as lost with the path, while the source goes on trying."""
    source = LiveSource(KubeSettings(kubeconfig=tmp_path / "nowhere"), clock=lambda: T0)
    task = asyncio.create_task(source.run())
    await until(source, lambda: source.health()[0].state == "lost")
    assert "nowhere" in source.health()[0].detail
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_once_as_text_and_json() -> None:
    """Scripts get every row, sorted, and the alerts; the text is ASCII when asked."""
    server = FakeServer()
    fill(server)
    async with following(server) as source:
        words = as_text(source, ASCII, 100)
        document = json.loads(as_json(source))
    assert words.isascii()
    assert "POOLS (1)" in words
    assert words.index("py-1") < words.index("py-2")
    assert [row["name"] for row in document["sandboxes"]] == ["py-1", "py-2"]
    assert document["pools"][0]["available"] == 2
    assert document["claims"][0]["cause"] == "not seen by the controller yet"
    assert document["watches"][0] == {"kind": kinds.SANDBOX.plural, "state": "live", "detail": ""}


def test_once_of_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--replay with --once prints the end of the recording without any cluster."""
    with Recorder(tmp_path / "r.gz") as write:
        for change in busy_changes():
            write(change)
    settings = TuiSettings(kube=KubeSettings(), once="json", replay=tmp_path / "r.gz")
    assert run(settings) == 0
    assert len(json.loads(capsys.readouterr().out)["pools"]) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"replay": Path("/nonexistent/r")}, "--replay /nonexistent/r: No such file or directory"),
        ({"record": Path("/nonexistent/r"), "once": "text"}, "--record /nonexistent/r: No such file or directory"),
        ({"once": "text"}, "/nonexistent/kubeconfig: no such file"),
        ({}, "this is no terminal: --once prints the tables, --web shows the deck in a browser"),
    ],
)
def test_what_cannot_begin_says_so_at_once(
    settings: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Files that are not there, no kubeconfig and no terminal end the start with words, without a wait."""
    monkeypatch.delenv("TEXTUAL_DRIVER", raising=False)
    kube = KubeSettings(kubeconfig=Path("/nonexistent/kubeconfig"))
    with pytest.raises((ValueError, RuntimeError), match=re.escape(said)):
        run(TuiSettings(kube=kube, config=tmp_path / "none", **settings))


def test_the_text_form_needs_no_colours() -> None:
    """Where bars tell their parts by colour on a screen, the printed table tells them by letters, and says which."""
    source = FixedSource(busy_changes())
    words = as_text(source, PLAIN)
    assert "spent on: q queue, p pick, w write, r ready, i init" in words
    assert re.search(r"w+i+ ", words)


def test_a_path_is_never_part_of_the_script() -> None:
    """What an operator types as a path reaches the shell inside as an argument only."""
    command = listing("$(rm -rf /); x")
    assert command[-1] == "$(rm -rf /); x"
    assert "rm -rf" not in command[2]
