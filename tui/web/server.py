"""``--web``: the deck behind a token, on loopback unless told otherwise, with a bounded number of visitors.

``textual-serve`` brings the terminal for the browser and the protocol between it and the application. What is ours is
the door: every request but the one with the token needs the cookie, nothing is logged, pages fetch nothing from other
hosts, and a visitor too many is told so instead of being let in.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import WSCloseCode, WSMsgType, web
from textual_serve.server import Server, to_int

from tui.settings import WebSettings
from tui.web.access import Gatekeeper
from tui.web.page import NEEDS_TOKEN, POLICY, deck_page, notice_page
from tui.web.session import Session

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HEADERS = {"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
SHUTDOWN = 8.0
"""Seconds for all decks to end when the server does."""
log = logging.getLogger(__name__)


class DeckServer(Server):
    """The library's server with a door."""

    def __init__(self, settings: WebSettings, keeper: Gatekeeper) -> None:
        super().__init__(" ".join(settings.command), settings.host, settings.port, title="flight deck")
        self._settings = settings
        self._keeper = keeper
        self._sockets: set[web.WebSocketResponse] = set()

    async def application(self) -> web.Application:
        """The library's routes behind the door."""
        app = await self._make_app()
        app.middlewares.append(self._door)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """Nothing is printed here: the address is, by who knows its port."""

    async def on_shutdown(self, app: web.Application) -> None:
        """Visitors are told, so that their handlers end."""
        for socket in list(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server ends")

    @web.middleware
    async def _door(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        answer: web.StreamResponse = self._refusal(request) or await handler(request)
        if not answer.prepared:
            answer.headers.update(HEADERS)
        return answer

    def _refusal(self, request: web.Request) -> web.Response | None:
        """What to answer instead; None: come in."""
        keeper = self._keeper
        if request.path == "/" and "token" in request.query and keeper.knows_token(request.query):
            answer = web.Response(status=303, headers={"Location": "/"})
            answer.set_cookie(keeper.cookie, keeper.pass_value, httponly=True, samesite="Lax", secure=request.secure)
            return answer
        if not keeper.knows_cookie(request.cookies):
            return _notice(401, *NEEDS_TOKEN)
        if request.path == "/ws" and not keeper.from_here(request.headers):
            return _notice(403, "Refused", "A page of another host may not open this deck.")
        if request.path in ("/", "/ws") and keeper.full:
            words = f"{keeper.limit} sessions are open, which is the limit (--web-sessions). Close one and reload."
            return _notice(503, "All places are taken", words)
        return None

    async def handle_index(self, request: web.Request) -> web.Response:
        """The page with the terminal."""
        nonce = secrets.token_urlsafe(12)
        size = min(40, max(8, to_int(request.query.get("fontsize", "16"), 16)))
        headers = {"Content-Security-Policy": POLICY.format(nonce=nonce)}
        return web.Response(text=deck_page(nonce, size), content_type="text/html", headers=headers)

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """A deck of its own for this visitor, until either side ends."""
        width, height = (min(1000, max(10, to_int(request.query.get(name, ""), 80))) for name in ("width", "height"))
        leave = self._keeper.enter(uuid.uuid4().hex)
        socket = web.WebSocketResponse(heartbeat=15)
        session = Session(self._settings.command, self._settings.environment, socket, self.download_manager)
        try:
            await socket.prepare(request)
            self._sockets.add(socket)
            await session.start(width, height)
            await self._carry(socket, session)
        finally:
            self._sockets.discard(socket)
            try:
                await asyncio.shield(session.end())
            finally:
                leave()
        return socket

    async def _carry(self, socket: web.WebSocketResponse, session: Session) -> None:
        """What the visitor does, to the deck; a message that is none is ignored."""
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            match _decoded(message):
                case ["stdin", str(keys)]:
                    await session.send_bytes(keys.encode())
                case ["resize", {"width": int(width), "height": int(height)}]:
                    await session.set_terminal_size(min(1000, max(10, width)), min(1000, max(3, height)))
                case ["ping", str(word)]:
                    await socket.send_json(["pong", word])
                case ["blur", *_]:
                    await session.blur()
                case ["focus", *_]:
                    await session.focus()


def _decoded(message: object) -> object:
    try:
        return message.json()  # type: ignore[attr-defined]
    except ValueError:
        return None


def _notice(status: int, title: str, words: str) -> web.Response:
    return web.Response(status=status, text=notice_page(title, words), content_type="text/html")


async def serve(settings: WebSettings, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``say`` gets the address with the token, once. Raises OSError."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    keeper = Gatekeeper(settings.port, settings.sessions)
    app = await DeckServer(settings, keeper).application()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        host, port = runner.addresses[0][:2]
        shown = f"[{host}]" if ":" in host else host
        say(f"flight deck: http://{shown}:{port}/?token={keeper.token}")
        if not settings.loopback:
            say("warning: this address is plain HTTP and not loopback; put TLS in front of it (a reverse proxy)")
        await stop.wait()
    finally:
        await runner.cleanup()
