"""The deck in a browser: the door, what lies behind it, and that a visitor's process ends with the visit."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from appliance import cli
from tui.settings import WebSettings
from tui.web.access import Gatekeeper
from tui.web.server import DeckServer, serve

PROGRAM = r"""
import os, sys
out = sys.stdout.buffer
def say(kind, body):
    out.write(kind + len(body).to_bytes(4, "big") + body); out.flush()
open(sys.argv[1], "a").write(f"{os.getpid()} {os.environ.get('MARK')} {os.environ['COLUMNS']}\n")
out.write(b"__GANGLION__\n"); out.flush()
while head := sys.stdin.buffer.read(5):
    body = sys.stdin.buffer.read(int.from_bytes(head[1:], "big"))
    if head[:1] == b"M" and b"quit" in body:
        break
    say(b"D", head[:1] + body)
"""
"""A program that speaks the library's protocol: echoes what it is sent, ends when it is told to."""


@asynccontextmanager
async def served(tmp_path: Path, limit: int = 2) -> AsyncIterator[tuple[TestClient, Gatekeeper, Path]]:  # type: ignore[type-arg]
    """A server on a free port, a client with a cookie jar, and the file in which visitors' processes sign."""
    diary = tmp_path / "diary"
    command = (sys.executable, "-c", PROGRAM, str(diary))
    keeper = Gatekeeper(0, limit)
    app = await DeckServer(WebSettings(command=command, environment={"MARK": "x"}), keeper).application()
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an IP address too
    async with TestClient(TestServer(app), cookie_jar=jar) as client:
        yield client, keeper, diary


def origin(client: TestClient) -> dict[str, str]:  # type: ignore[type-arg]
    """The header a browser sends with a WebSocket of a page of this server."""
    return {"Origin": str(client.make_url("/")).rstrip("/")}


@pytest.mark.parametrize("path", ["/", "/?token=guess", "/ws", "/static/js/textual.js", "/download/x", "/none"])
async def test_nothing_is_shown_without_the_token(tmp_path: Path, path: str) -> None:
    """Every address answers 401 with a page that says where the token is; a wrong token is none."""
    async with served(tmp_path) as (client, keeper, diary):
        answer = await client.get(path)
        words = await answer.text()
        assert answer.status == 401
        assert "needs its token" in words and keeper.token not in words
        assert not diary.exists()


async def test_the_token_is_exchanged_for_a_cookie_and_leaves_the_address(tmp_path: Path) -> None:
    """The printed address gives a cookie that scripts cannot read and leads to an address without the token."""
    async with served(tmp_path) as (client, keeper, _):
        answer = await client.get("/", params={"token": keeper.token}, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and keeper.token not in cookie
        page = await client.get("/")
        words = await page.text()
        assert page.status == 200 and "/static/js/textual.js" in words and keeper.token not in words
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        assert (await client.get("/static/js/textual.js")).status == 200


async def test_a_visitor_gets_a_process_that_ends_with_the_visit(tmp_path: Path) -> None:
    """Keys and sizes reach the process, its output comes back, nonsense is ignored, and leaving ends it."""
    async with served(tmp_path) as (client, keeper, diary):
        await client.get("/", params={"token": keeper.token})
        async with client.ws_connect("/ws?width=123&height=9", headers=origin(client)) as socket:
            for sent in ("no json", '["resize", {"width": "x"}]', "[]", '["stdin", "jk"]'):
                await socket.send_str(sent)
            assert await socket.receive_bytes() == b"Djk"
            await socket.send_json(["resize", {"width": 90, "height": 30}])
            assert b'"width": 90' in await socket.receive_bytes()
            await socket.send_json(["ping", "1"])
            assert await socket.receive_json() == ["pong", "1"]
        pid, mark, columns = diary.read_text().split()
        assert (mark, columns) == ("x", "123")
        async with asyncio.timeout(30):
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.01)
        assert not keeper.full


async def test_a_foreign_page_cannot_use_the_visitors_cookie(tmp_path: Path) -> None:
    """A WebSocket with the cookie but of another origin, or of none, is refused and starts nothing."""
    async with served(tmp_path) as (client, keeper, diary):
        await client.get("/", params={"token": keeper.token})
        for headers in ({"Origin": "http://evil.example"}, {}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect("/ws", headers=headers)
            assert refused.value.status == 403
        assert not diary.exists()


async def test_a_visitor_too_many_is_told(tmp_path: Path) -> None:
    """With all places taken, page and WebSocket answer 503 and name the limit; a place that frees is given again."""
    async with served(tmp_path, limit=1) as (client, keeper, _):
        await client.get("/", params={"token": keeper.token})
        async with client.ws_connect("/ws", headers=origin(client)):
            page = await client.get("/")
            assert page.status == 503 and "--web-sessions" in await page.text()
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect("/ws", headers=origin(client))
            assert refused.value.status == 503
        async with asyncio.timeout(30):
            while keeper.full:
                await asyncio.sleep(0.01)
        assert (await client.get("/")).status == 200


async def test_the_address_is_said_once_and_logged_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """``serve`` says one address with the token and logs no request; a signal ends it."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    task = asyncio.create_task(serve(WebSettings(port=0, command=(sys.executable, "-c", "")), said.append))
    async with asyncio.timeout(30):
        while not said:
            await asyncio.sleep(0.01)
    url = said[0].removeprefix("flight deck: ")
    async with aiohttp.ClientSession() as session, session.get(url, allow_redirects=False) as answer:
        assert answer.status == 303
    os.kill(os.getpid(), 15)
    await asyncio.wait_for(task, 30)
    assert len(said) == 1
    assert url.partition("token=")[2] not in caplog.text


def test_an_address_that_others_reach_is_named_as_such() -> None:
    """Loopback, by number or name, needs no warning; anything else does."""
    command = ("true",)
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert WebSettings(host=host, command=command).loopback
    for host in ("0.0.0.0", "10.0.0.1", "deck.example"):
        assert not WebSettings(host=host, command=command).loopback


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--web", "8090"], "expected HOST:PORT"),
        (["--web", "host:port"], "expected HOST:PORT"),
        (["--web", "h:99999"], "expected HOST:PORT"),
        (["--web", "--once"], "--once"),
        (["--web", "--record", "x"], "--record"),
        (["--web", "--web-sessions", "0"], "--web-sessions"),
    ],
)
def test_bad_words_for_web_are_named(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An address that is none, and what cannot be combined, end with one line that names it."""
    assert cli.main(["--role=tui", *words]) != 0
    assert expected in capsys.readouterr().err


def test_a_visitors_process_gets_the_same_options_and_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked of the server is asked of each visitor's deck; nothing secret is in its arguments."""
    seen: list[WebSettings] = []
    monkeypatch.setattr("tui.main.run", lambda settings: seen.append(settings.web) or 0)
    words = ["--data-dir", "/none", "--kubeconfig", "/k", "--namespace", "team", "--readonly", "--no-color"]
    assert cli.main(["--role=tui", "--web", "127.0.0.1:0", *words]) == 0
    command = " ".join(seen[0].command)
    assert all(word in command for word in ("--role=tui", "--kubeconfig /k", "--namespace team", "--readonly"))
    assert "token" not in command and "--web" not in command
