"""The application under a pilot: every key does what the help says, on a standing world with a fake cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from decks import T0, FixedSource, busy_changes, claim, gone, pool, put, sandbox
from fake_cluster import FakeServer
from textual.pilot import Pilot
from textual.widgets import Log

from appliance.kube import errors
from tui.act.table import ACTIONS
from tui.app import Deck
from tui.configuration import Configuration
from tui.feed.replay import Player
from tui.screens.deck import DeckScreen
from tui.screens.dialogs import Ask, Confirm
from tui.screens.listing import ListScreen
from tui.screens.one import PARTS, SandboxScreen
from tui.screens.pages import LogScreen, PageScreen
from tui.screens.prompt import Prompt
from tui.widgets.lines import Lines, Page
from tui.widgets.table import LiveTable


@asynccontextmanager
async def running(source: Any = None, size: tuple[int, int] = (120, 30), **options: Any) -> AsyncIterator[Pilot[None]]:
    """A deck that paints only when asked."""
    deck = Deck(source or FixedSource(busy_changes()), clock_paused=True, **options)
    async with deck.run_test(size=size) as pilot:
        await pilot.pause()
        yield pilot


async def keys(pilot: Pilot[None], *pressed: str) -> None:
    """Press and let everything settle."""
    for key in pressed:
        await pilot.press(key)
        await pilot.pause()
    for _ in range(200):
        busy = any(one.group in ("deeds", "reads", "yaml") and one.is_running for one in pilot.app.workers)
        if _asking(pilot) or not busy:
            break
        await pilot.pause()
    await pilot.pause()


def _asking(pilot: Pilot[None]) -> bool:
    return isinstance(pilot.app.screen, Ask | Confirm)


def screen(pilot: Pilot[None]) -> Any:
    """The screen on top."""
    return pilot.app.screen


def names(pilot: Pilot[None]) -> list[str]:
    """Names of the rows of the table."""
    return [row.key[1] for row in screen(pilot).query_one(LiveTable).rows]


def shown(pilot: Pilot[None], selector: str) -> str:
    """Words of a painted part."""
    return str(screen(pilot).query_one(selector, Lines).plain)


# Moving about -----------------------------------------------------------------------------------------------------
async def test_numbers_go_to_the_four_screens_and_escape_comes_back() -> None:
    """1 to 4 switch screens from anywhere; enter goes in, escape comes out."""
    async with running() as pilot:
        for key, name in (("2", "pools"), ("3", "sandboxes"), ("4", "claims"), ("1", "overview")):
            await keys(pilot, key)
            assert screen(pilot).name_of == name
        await keys(pilot, "3", "enter")
        assert isinstance(screen(pilot), SandboxScreen)
        await keys(pilot, "escape")
        assert screen(pilot).name_of == "sandboxes"


async def test_the_cursor_stays_on_its_object() -> None:
    """Rows inserted and removed above it move the line, not the object under the cursor, nor its height."""
    async with running(size=(100, 11)) as pilot:
        await keys(pilot, "3", "j", "j", "j", "j", "j", "j", "j")
        live = screen(pilot).live
        key, height = live.cursor_key, live._cursor - live.scroll_y
        world = pilot.app.source.world
        for index in range(30):
            world.apply(put(T0, sandbox(f"aa-{index:02}")))
        screen(pilot).paint()
        await pilot.pause()
        assert live.cursor_key == key
        assert live._cursor - live.scroll_y == height
        world.apply(gone(T0, world.sandboxes[key].source))
        screen(pilot).paint()
        assert live.cursor_key is not None


@pytest.mark.parametrize(
    ("pressed", "place"),
    [("j", 1), ("down", 1), ("G", 8), ("end", 8), ("pagedown", 8), ("jjk", 1), ("Gg", 0), ("jj^", 0)],
)
async def test_keys_move_the_cursor(pressed: str, place: int) -> None:
    """The vi keys, the arrows and the page keys all move it."""
    async with running() as pilot:
        await keys(pilot, "3")
        single = [pressed] if pressed in ("down", "end", "pagedown") else list(pressed.replace("^", ""))
        await keys(pilot, *single, *(["home"] if "^" in pressed else []))
        assert screen(pilot).live._cursor == place


async def test_a_pool_opens_its_sandboxes() -> None:
    """Enter on a pool shows the sandboxes of its template only."""
    async with running() as pilot:
        await keys(pilot, "2", "j", "enter")
        assert screen(pilot).name_of == "sandboxes"
        assert names(pilot) == ["dry-pool-cold"]


async def test_an_alert_opens_what_it_is_about() -> None:
    """From the overview down into the alerts, and from an alert to the object."""
    async with running() as pilot:
        await keys(pilot, "j", "j", "j", "j", "enter")
        assert screen(pilot).name_of == "pools"
        assert screen(pilot).live.cursor_key == ("default", "dry-pool")


# Filter, sort, marks ----------------------------------------------------------------------------------------------
async def test_a_filter_works_while_it_is_typed_and_escape_takes_it_away() -> None:
    """Slash filters at every keystroke; enter keeps it, escape on the list clears it."""
    async with running() as pilot:
        await keys(pilot, "3", "slash", "c", "o", "l")
        assert names(pilot) == ["dry-pool-cold"]
        await keys(pilot, "enter")
        assert not screen(pilot).query_one(Prompt).is_open
        assert "/col" in shown(pilot, "#tabs")
        await keys(pilot, "escape")
        assert len(names(pilot)) == 9


async def test_escape_while_typing_gives_the_old_filter_back() -> None:
    """A filter that was only tried leaves no trace."""
    async with running() as pilot:
        await keys(pilot, "3", "slash", "p", "y", "enter", "slash", "x", "x", "escape")
        assert screen(pilot).filter.source == "py"


async def test_keys_are_text_while_something_is_typed() -> None:
    """No letter of a filter is taken for an action."""
    async with running() as pilot:
        await keys(pilot, "3", "slash", "q", "4", "d")
        assert screen(pilot).query_one(Prompt).is_open
        assert screen(pilot).filter.source == "q4d"


async def test_typing_without_a_pause_loses_no_letter() -> None:
    """Keys that follow the slash at once are text of the filter, none is an action and none is lost."""
    async with running() as pilot:
        await keys(pilot, "3")
        await pilot.press("slash", "p", "u", "q")
        await pilot.pause()
        assert screen(pilot).filter.source == "puq"


async def test_shift_and_a_letter_sorts_and_again_turns() -> None:
    """The header says by what and which way."""
    async with running() as pilot:
        await keys(pilot, "3", "N")
        assert names(pilot) == sorted(names(pilot), reverse=True)
        await keys(pilot, "N")
        assert names(pilot) == sorted(names(pilot))
        await keys(pilot, "S")
        assert names(pilot)[:2] == ["broken-x1", "dry-pool-cold"]


async def test_faults_shows_only_what_has_trouble() -> None:
    """ctrl+z hides what is well, and shows it again."""
    async with running() as pilot:
        await keys(pilot, "3", "ctrl+z")
        assert names(pilot) == ["broken-x1", "py-frozen"]
        await keys(pilot, "ctrl+z")
        assert len(names(pilot)) == 9


async def test_marks_choose_what_actions_are_about() -> None:
    """Space marks and goes on, ctrl+space marks a range, ctrl+backslash clears."""
    async with running() as pilot:
        await keys(pilot, "3", "space", "j", "j", "ctrl+@")
        assert [row.key[1] for row in screen(pilot).live.chosen] == [
            "broken-x1",
            "dry-pool-cold",
            "py-aaaa0",
            "py-aaaa1",
        ]
        assert "4 marked" in shown(pilot, "#tabs")
        await keys(pilot, "ctrl+backslash")
        assert [row.key[1] for row in screen(pilot).live.chosen] == ["py-aaaa1"]


async def test_a_namespace_narrows_every_list() -> None:
    """n asks for it, all takes it away, the command line does both."""
    async with running(FixedSource([*busy_changes(), put(T0, pool("far", namespace="other"))])) as pilot:
        await keys(pilot, "2", "n", *"other", "enter")
        assert names(pilot) == ["far"]
        await keys(pilot, "colon", *"ns all", "enter")
        assert len(names(pilot)) == 4


async def test_wide_shows_all_columns() -> None:
    """ctrl+w shows every column, scrolling sideways on a narrow terminal."""
    async with running(size=(60, 20)) as pilot:
        await keys(pilot, "3")
        live = screen(pilot).live
        before = len(live._layout())
        await keys(pilot, "ctrl+w")
        assert before < len(live._layout()) == len(live.columns)
        assert live.virtual_size.width > 60


# Looking into things ----------------------------------------------------------------------------------------------
USAGE_OUTPUT = """cpu.stat usage_usec 2000000
cpu.max 100000 100000
memory.current 104857600
memory.max 209715200
uptime 100.0 0.0
processes 7
disk overlay 2097152 1048576 1048576 50% /
"""


async def test_the_parts_of_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tab goes through all parts and round again; what is inside is asked inside, at the place that was named."""
    asked: list[list[str]] = []

    async def output(cluster: object, key: object, command: list[str]) -> str:
        asked.append(command)
        return USAGE_OUTPUT if "uptime" in command[2] else f"said {command[2][:3]}"

    monkeypatch.setattr("tui.act.inside.output", output)
    server = FakeServer()
    server.create("/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxes", {"metadata": {"name": "broken-x1"}})
    async with running(FixedSource(busy_changes(), cluster=server.cluster())) as pilot:
        await keys(pilot, "3", "enter")
        expected = {"timeline": "created", "conditions": "StartContainerFailed", "events": "image not found"}
        expected |= {"describe": "broken-x1", "yaml": "metadata:", "processes": "said ps ", "files": "said [ -"}
        expected["usage"] = "100 MiB of 200 MiB"
        for part in PARTS:
            assert screen(pilot).part == part
            for _ in range(50):
                if expected[part] in screen(pilot).query_one(Page).plain:
                    break
                await pilot.pause()
            assert expected[part] in screen(pilot).query_one(Page).plain
            await keys(pilot, "tab")
            await pilot.pause()
        assert screen(pilot).part == "timeline"
        await keys(pilot, "shift+tab")
        assert screen(pilot).part == "usage"
        await keys(pilot, "escape", "colon", *"files /tmp", "enter")
        assert screen(pilot).part == "files"
        await pilot.pause()
        assert asked[-1][-1] == "/tmp"


async def test_a_paused_sandbox_is_not_asked_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs in it, so nobody would answer: its parts say so instead of waiting."""
    item = sandbox("py-1", claimed=T0, phase="Paused", paused=True, paused_done=True)
    async with running(FixedSource([put(T0, item)], cluster=FakeServer().cluster())) as pilot:
        await keys(pilot, "3", "m")
        await pilot.pause()
        assert "It is paused" in screen(pilot).query_one(Page).plain


async def test_a_sandbox_that_goes_is_still_explained() -> None:
    """Its screen stays, says that it is gone, and its timeline ends with the deletion."""
    async with running() as pilot:
        await keys(pilot, "3", "enter")
        world = pilot.app.source.world
        world.apply(gone(T0, world.sandboxes["default", "broken-x1"].source))
        screen(pilot).paint()
        assert "It is gone" in shown(pilot, "#head")
        assert "deleted" in screen(pilot).query_one(Page).plain


async def test_describe_stays_live() -> None:
    """What is described changes with the world."""
    async with running() as pilot:
        await keys(pilot, "2", "G", "d")
        assert "py" in shown(pilot, "#tabs")
        pilot.app.source.world.apply(put(T0, pool("py", 77)))
        screen(pilot).paint()
        assert "77" in screen(pilot).query_one(Page).plain


async def test_copy_puts_the_page_on_the_clipboard() -> None:
    """c copies what is shown."""
    async with running() as pilot:
        await keys(pilot, "3", "d", "c")
        assert "broken-x1" in pilot.app.clipboard


# Doing things -----------------------------------------------------------------------------------------------------
SANDBOXES = "/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxes"
CLAIMS = "/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxclaims"
SETS = "/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxsets"


def cluster_with(*items: Any) -> tuple[FakeServer, FixedSource]:
    """A fake cluster that holds exactly what the screen shows."""
    import msgspec

    server = FakeServer()
    changes = []
    for item in items:
        body = msgspec.to_builtins(item)
        path = {"Sandbox": SANDBOXES, "SandboxSet": SETS, "SandboxClaim": CLAIMS}[type(item).__name__]
        server.create(path, body)
        stored = server.objects[f"{path}/{item.name}"]
        changes.append(put(T0 - 1, msgspec.convert({**body, "metadata": stored["metadata"]}, type(item))))
    return server, FixedSource(changes, cluster=server.cluster())


async def test_kill_asks_and_its_default_is_to_do_nothing() -> None:
    """Enter on the dialog cancels; only choosing Kill deletes, guarded by the uid that was seen."""
    server, source = cluster_with(sandbox("py-1", claimed=T0 - 9))
    async with running(source) as pilot:
        await keys(pilot, "3", "ctrl+d")
        assert isinstance(screen(pilot), Confirm)
        await keys(pilot, "enter")
        assert screen(pilot).flashed == "cancelled"
        assert f"{SANDBOXES}/py-1" in server.objects
        await keys(pilot, "ctrl+d", "right", "enter")
        assert screen(pilot).flashed == "killed py-1"
        assert f"{SANDBOXES}/py-1" not in server.objects


async def test_bulk_kill_of_what_is_marked() -> None:
    """All marked sandboxes go, one dialog for all."""
    server, source = cluster_with(*(sandbox(f"py-{index}", claimed=T0 - 9) for index in range(5)))
    async with running(source) as pilot:
        await keys(pilot, "3", "space", "space", "space", "ctrl+d")
        assert "Kill sandboxes: 3 (py-0, py-1, py-2)?" in screen(pilot).question
        await keys(pilot, "tab", "enter")
        assert screen(pilot).flashed == "Kill: 3 done"
        assert sorted(path.rsplit("/", 1)[1] for path in server.objects) == ["py-3", "py-4"]


@pytest.mark.parametrize(
    ("key", "item", "field", "value", "said"),
    [
        ("p", {"claimed": T0 - 9}, "paused", True, "pausing py-1"),
        ("u", {"claimed": T0 - 9, "paused": True, "paused_done": True}, "paused", False, "resuming py-1"),
        ("p", {}, "paused", False, "py-1 is in the pool: only claimed sandboxes are paused"),
        ("u", {"claimed": T0 - 9}, "paused", False, "py-1 is not paused"),
    ],
)
async def test_pause_and_resume(key: str, item: dict[str, Any], field: str, value: bool, said: str) -> None:
    """They write the one field, or say why they may not."""
    server, source = cluster_with(sandbox("py-1", **item))
    async with running(source) as pilot:
        await keys(pilot, "3", key)
        assert screen(pilot).flashed == said
        assert bool(server.objects[f"{SANDBOXES}/py-1"]["spec"].get(field, False)) is value


async def test_extend_asks_by_how_much_and_previews() -> None:
    """The dialog says what a value will do while it is typed, and refuses nonsense."""
    server, source = cluster_with(sandbox("py-1", claimed=T0 - 9, shutdown=T0 + 60))
    async with running(source) as pilot:
        await keys(pilot, "3", "t")
        assert isinstance(screen(pilot), Ask)
        await keys(pilot, "x", "enter")
        assert isinstance(screen(pilot), Ask)
        assert "expected a duration" in str(screen(pilot).query_one(".detail").render())
        await keys(pilot, "backspace", "1", "0", "m", "enter")
        assert server.objects[f"{SANDBOXES}/py-1"]["spec"]["shutdownTime"] == "2026-01-02T12:11:00Z"


async def test_scale_from_the_command_line_and_with_preview() -> None:
    """:scale takes a number or an offset at once; the key asks and says what will happen."""
    server, source = cluster_with(pool("py", 3))
    async with running(source) as pilot:
        await keys(pilot, "2", "s")
        assert "nothing changes" not in screen(pilot).question
        await keys(pilot, "8")
        assert "8 more are made" in str(screen(pilot).query_one(".detail").render())
        await keys(pilot, "escape")
        assert screen(pilot).flashed == "cancelled"
        await keys(pilot, "colon", *"scale +4", "enter")
        assert server.objects[f"{SETS}/py"]["spec"]["replicas"] == 7
        assert screen(pilot).flashed == "py: from 3 to 7"


async def test_image_and_restart_make_a_new_revision_of_the_template() -> None:
    """The image of the first container changes and nothing else; restart changes one annotation."""
    server, source = cluster_with(pool("py", 3))
    async with running(source) as pilot:
        await keys(pilot, "2", "colon", *"image alpine:3", "enter")
        container = server.objects[f"{SETS}/py"]["spec"]["template"]["spec"]["containers"][0]
        assert container["image"] == "alpine:3"
        assert container["env"] == [{"name": "TOKEN", "value": "geheim"}]
        await keys(pilot, "r", "right", "enter")
        assert server.objects[f"{SETS}/py"]["spec"]["template"]["metadata"]["annotations"]


async def test_deleting_a_pool_wants_its_name_typed() -> None:
    """The button works only once the name is there."""
    server, source = cluster_with(pool("py", 3))
    async with running(source) as pilot:
        await keys(pilot, "2", "ctrl+d", "p", "enter", "right", "enter")
        assert f"{SETS}/py" in server.objects
        await keys(pilot, "escape")
        await keys(pilot, "ctrl+d", "p", "y", "enter", "right", "enter")
        assert f"{SETS}/py" not in server.objects


async def test_deleting_a_claim_asks_first() -> None:
    """ctrl+d on a SandboxClaim deletes it once that was said; a delivery through the API is no object to delete."""
    server, source = cluster_with(claim("batch", at=T0 - 8), sandbox("py-1", claimed=T0 - 9))
    path = f"{CLAIMS}/batch"
    async with running(source) as pilot:
        await keys(pilot, "4", "g", "ctrl+d", "enter")
        assert path in server.objects and screen(pilot).flashed == "cancelled"
        await keys(pilot, "ctrl+d", "right", "enter")
        assert path not in server.objects
        await keys(pilot, "j", "ctrl+d", "right", "enter")
        assert "no object of its own" in screen(pilot).flashed


async def test_theme_and_picture_from_the_command_line(tmp_path: Path) -> None:
    """A theme by name, or the next; a picture of the screen as a file."""
    async with running() as pilot:
        pilot.app.screen.command("theme textual-light")  # type: ignore[attr-defined]
        assert pilot.app.theme == "textual-light"
        pilot.app.screen.command("theme nonsense")  # type: ignore[attr-defined]
        assert "no theme 'nonsense'" in screen(pilot).flashed and pilot.app.theme == "textual-light"
        pilot.app.screen.command("theme")  # type: ignore[attr-defined]
        assert pilot.app.theme != "textual-light"
        pilot.app.screen.command(f"screenshot {tmp_path / 'deck.svg'}")  # type: ignore[attr-defined]
        assert (tmp_path / "deck.svg").read_text().startswith("<svg")


async def test_claim_makes_a_sandboxclaim() -> None:
    """c on a pool creates a claim for one of its sandboxes with an end."""
    server, source = cluster_with(pool("py", 3))
    async with running(source) as pilot:
        await keys(pilot, "2", "c")
        (made,) = server.of("sandboxclaims")
        assert made["spec"]["templateName"] == "py"
        assert made["spec"]["shutdownTime"] == "2026-01-02T12:30:00Z"


async def test_what_changed_meanwhile_is_not_overwritten() -> None:
    """An action on a version that is no longer there is refused in words."""
    server, source = cluster_with(sandbox("py-1", claimed=T0 - 9))
    server.patch(f"{SANDBOXES}/py-1", {"metadata": {"labels": {"x": "y"}}})
    async with running(source) as pilot:
        await keys(pilot, "3", "p")
        assert screen(pilot).flashed == "py-1 changed meanwhile; look again"
        assert not server.objects[f"{SANDBOXES}/py-1"]["spec"].get("paused")


async def test_what_the_cluster_forbids_is_disabled_with_its_reason() -> None:
    """After a 403 the action says why at once, without asking the cluster again."""
    server, source = cluster_with(sandbox("py-1", claimed=T0 - 9))

    async def forbid(verb: str, path: str, do: Any) -> bytes:
        raise errors.Forbidden(403, "Forbidden", "bob may not patch sandboxes")

    server.trouble = forbid
    async with running(source) as pilot:
        await keys(pilot, "3", "p")
        assert "bob may not patch" in screen(pilot).flashed
        asked = sum(server.requests.values())
        await keys(pilot, "p")
        assert screen(pilot).flashed == "Pause: not allowed (bob may not patch sandboxes)"
        assert sum(server.requests.values()) == asked
        await keys(pilot, "question_mark")
        assert "not allowed: bob may not patch" in screen(pilot).query_one(Page).plain


async def test_readonly_hides_everything_dangerous() -> None:
    """Dangerous keys do nothing, are in no help, and the command line refuses them."""
    server, source = cluster_with(sandbox("py-1", claimed=T0 - 9))
    async with running(source, readonly=True) as pilot:
        await keys(pilot, "3", "ctrl+d", "p")
        assert screen(pilot).name_of == "sandboxes"
        assert server.writes() == {}
        await keys(pilot, "colon", *"kill", "enter")
        assert screen(pilot).flashed == "Kill: not here"
        await keys(pilot, "question_mark")
        page = screen(pilot).query_one(Page).plain
        assert "Kill" not in page
        assert "read-only" in shown(pilot, "#title")


# Help, palette, configuration -------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", ["1", "2", "3", "4"])
async def test_the_help_shows_every_action_of_the_screen(key: str) -> None:
    """No action that is offered is missing from the help, none that is not offered is in it."""
    async with running() as pilot:
        await keys(pilot, key)
        here: DeckScreen = screen(pilot)
        offered = [action for action in ACTIONS if here.offers(action)]
        await keys(pilot, "question_mark")
        page = screen(pilot).query_one(Page).plain
        assert isinstance(screen(pilot), PageScreen)
        assert [action.name for action in ACTIONS if f":{action.name}" in page.replace(",", " ").split()] == [
            action.name for action in offered
        ]


async def test_every_action_of_every_screen_has_somebody_who_does_it() -> None:
    """An action of the table is done by its screen or by a deed."""
    from tui.act.deeds import DEEDS

    async with running(Player(busy_changes(), "", lambda: 0.0)) as pilot:
        for key in ("1", "2", "3", "4"):
            await keys(pilot, key)
            for action in ACTIONS:
                if action.belongs(screen(pilot).name_of) and action.group != "move":
                    assert hasattr(screen(pilot), f"do_{action.name}") or action.name in DEEDS, action.name


async def test_the_palette_offers_the_actions() -> None:
    """ctrl+p finds the same actions as the keys."""
    async with running() as pilot:
        await keys(pilot, "3")
        titles = [command.title for command in pilot.app.get_system_commands(screen(pilot))]
        assert {"Kill", "Describe", "Pools", "Theme"} <= set(titles)
        assert "Scale" not in titles


async def test_configuration_moves_keys_columns_and_theme() -> None:
    """A moved key works and the old one does not; the table has the named columns in the named order."""
    conf = Configuration("textual-light", {"sandboxes": ["state", "name"]}, {"describe": "x"})
    async with running(configuration=conf) as pilot:
        await keys(pilot, "3", "d")
        assert isinstance(screen(pilot), ListScreen)
        assert [column.name for column in screen(pilot).live.columns] == ["state", "name"]
        await keys(pilot, "x")
        assert isinstance(screen(pilot), PageScreen)
        assert pilot.app.theme == "textual-light"


async def test_unknown_commands_are_said() -> None:
    """The command line names what it does not know."""
    async with running() as pilot:
        await keys(pilot, "colon", *"frobnicate", "enter")
        assert "no command 'frobnicate'" in screen(pilot).flashed


# Replay, trouble --------------------------------------------------------------------------------------------------
async def test_a_recording_is_held_sped_up_and_scrubbed() -> None:
    """The recording keys move its time; nothing that changes a cluster is offered."""
    player = Player(busy_changes(), "incident", lambda: 0.0)
    async with running(player) as pilot:
        await keys(pilot, "full_stop", "greater_than_sign", "right")
        assert player.paused
        assert player.speed == 2.0
        assert player.now() == player.start + 10
        await keys(pilot, "colon", *"seek 100%", "enter", "left")
        assert player.now() == player.end - 10
        assert "held x2" in shown(pilot, "#title")
        await keys(pilot, "3", "ctrl+d")
        assert not _asking(pilot)


@pytest.mark.parametrize(
    ("state", "detail", "told"),
    [
        ("lost", "connection refused", "No answer from the cluster: connection refused"),
        ("missing", "", "install the custom resource definitions"),
        ("forbidden", "eve may not list", "eve may not list"),
        ("unauthorized", "token expired", "token expired"),
    ],
)
async def test_an_empty_table_says_why(state: str, detail: str, told: str) -> None:
    """Trouble with the cluster is told where the rows would be, and in the title."""
    source = FixedSource(ready=False)
    source.worsen(state, detail)
    async with running(source) as pilot:
        for key in ("2", "3", "4"):
            await keys(pilot, key)
            assert told in screen(pilot).live.empty
        assert "live" not in shown(pilot, "#title")


async def test_nothing_is_painted_when_nothing_changed() -> None:
    """A frame without news leaves the screen alone; a change or a second paints it once."""
    async with running() as pilot:
        await keys(pilot, "3")
        deck: Deck = pilot.app  # type: ignore[assignment]
        deck.frame()
        painted: list[int] = []
        screen(pilot).paint = lambda: painted.append(1)
        deck.frame()
        assert painted == []
        deck.source.world.apply(put(T0, sandbox("zz")))
        deck.frame()
        deck.frame()
        assert painted == [1]
        deck.source.at += 1
        deck.frame()
        assert painted == [1, 1]


async def test_what_the_cluster_does_not_allow_is_known_before_it_is_tried() -> None:
    """Access reviews disable actions with the reason, everywhere the reason can be seen."""
    server = FakeServer()
    server.allows = lambda asked: not (asked["verb"] == "delete" and asked["resource"] == "sandboxes")
    async with running(FixedSource(busy_changes(), cluster=server.cluster())) as pilot:
        await pilot.app.look_up_access()  # type: ignore[attr-defined]
        screen(pilot).paint()
        assert [row.alert.title for row in screen(pilot)._tables[1].rows][-1] == "not allowed: kill"
        await keys(pilot, "3", "ctrl+d")
        assert "you may not delete sandboxes in any namespace" in screen(pilot).flashed
        assert not _asking(pilot)


async def test_what_is_allowed_in_one_namespace_is_not_refused() -> None:
    """A role of one namespace is asked for there too; choosing another namespace asks again."""
    server = FakeServer()
    server.allows = lambda asked: asked["namespace"] == "default"
    changes = [*busy_changes(), put(T0, pool("far", namespace="other"))]
    async with running(FixedSource(changes, cluster=server.cluster())) as pilot:
        deck: Any = pilot.app
        await deck.look_up_access()
        assert deck.refused == {}
        deck.namespace = "other"
        await deck.look_up_access()
        assert deck.refused["kill"] == "you may not delete sandboxes in other"


async def test_changing_the_image_of_a_running_sandbox() -> None:
    """i asks, refuses what is no image, writes a template of its own in one guarded patch, and shows the condition."""
    server = FakeServer()
    base = "/apis/agents.kruise.io/v1alpha1/namespaces/default"
    container = {"name": "sandbox", "image": "python:3.11"}
    template = {"spec": {"template": {"spec": {"containers": [container]}}, "runtimes": [{"name": "agent-runtime"}]}}
    server.create(f"{base}/sandboxtemplates", {"metadata": {"name": "py-r1"}, **template})
    server.create(f"{base}/sandboxes", {"metadata": {"name": "py-1"}, "spec": {"templateRef": {"name": "py-r1"}}})
    source = FixedSource([put(T0, sandbox("py-1", claimed=T0))], cluster=server.cluster())
    async with running(source) as pilot:
        await keys(pilot, "3", "enter", "i", *"Not An Image")
        assert "expected the name of an image" in str(screen(pilot).query_one(".detail").render())
        await keys(pilot, "enter")
        assert isinstance(screen(pilot), Ask)
        screen(pilot).query_one("Input").value = "python:3.13"
        await keys(pilot, "enter")
        written = server.objects[f"{base}/sandboxes/py-1"]["spec"]
        assert written["template"]["spec"]["containers"] == [{"name": "sandbox", "image": "python:3.13"}]
        assert "templateRef" not in written and written["runtimes"] == [{"name": "agent-runtime"}]
        assert (screen(pilot).part, "from python:3.11 to python:3.13" in screen(pilot).flashed) == ("conditions", True)


async def test_a_frame_that_is_due_while_the_deck_ends_is_none() -> None:
    """The timer may fire once more after the last screen is gone: nothing is painted and nothing raised."""
    async with running() as pilot:
        deck: Any = pilot.app
    assert not deck.screen_stack
    deck.frame()


async def test_the_newest_claims_stay_in_sight() -> None:
    """A table of the overview nobody is in shows its top whatever arrives; one that has the keys keeps its row."""
    async with running(size=(120, 40)) as pilot:
        deck: Any = pilot.app
        claims = screen(pilot)._tables[2]
        first = claims.cursor_key
        deck.source.world.apply(put(T0, sandbox("py-new", claimed=T0)))
        screen(pilot).paint()
        assert claims.scroll_y == 0 and claims.cursor_key == claims.rows[0].key
        claims.focus()
        await pilot.pause()
        claims.go(2)
        kept = claims.cursor_key
        deck.source.world.apply(put(T0, sandbox("py-newer", claimed=T0 + 1)))
        screen(pilot).paint()
        assert claims.cursor_key == kept != first


@pytest.mark.parametrize("width", [40, 80, 120])
async def test_the_help_is_not_cut(width: int) -> None:
    """On every terminal all names of a command stand in the help without scrolling sideways."""
    async with running(size=(width, 24)) as pilot:
        await keys(pilot, "3", "question_mark")
        page = screen(pilot).query_one(Page)
        assert ":sandboxes, :sbx, :sb, :sandbox [FILTER]" in " ".join(page.plain.split())
        if width >= 60:
            assert max(map(len, page.plain.splitlines())) < width


async def test_a_log_follows_and_cannot_steer_the_terminal() -> None:
    """Colours of a program are left out, other escape codes are shown as marks; c copies what arrived."""

    async def lines() -> AsyncIterator[str]:
        for line in ("\x1b[31mred\x1b[0m", "\x1b[2Jx\ty"):
            yield line

    async with running() as pilot:
        pilot.app.push_screen(LogScreen("x log", lines))
        for _ in range(500):
            if isinstance(screen(pilot), LogScreen) and "ended" in screen(pilot).crumbs:
                break
            await pilot.pause()
        assert list(screen(pilot).query_one(Log).lines)[:2] == ["red", "?[2Jx   y"]
        await keys(pilot, "c")
        assert pilot.app.clipboard.splitlines()[:2] == ["red", "?[2Jx   y"]
