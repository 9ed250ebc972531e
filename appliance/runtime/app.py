"""The envd application: bare ASGI, one dictionary of routes, authentication before anything else.

Reading order: ``__call__`` (errors to answers) -> ``_route`` (token, then RPC or REST). A failure nobody foresaw is
logged and answered with 500 in the same JSON form; it never ends the connection without an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from appliance.runtime import auth, freeze, init
from appliance.runtime.connect.call import Call
from appliance.runtime.connect.rpc import Rpc
from appliance.runtime.context import Context
from appliance.runtime.files.compose import serve_compose
from appliance.runtime.files.download import serve_download
from appliance.runtime.files.upload import serve_upload
from appliance.runtime.filesystem.service import FilesystemService
from appliance.runtime.http import (
    PREFLIGHT,
    Disconnected,
    HttpError,
    Receive,
    Request,
    Scope,
    Send,
    respond,
    respond_error,
    respond_json,
)
from appliance.runtime.metrics import Metrics
from appliance.runtime.process.service import ProcessService
from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.state import RuntimeState, SupervisorChannel
from appliance.runtime.supervise.channel import Channel
from appliance.runtime.users import Users

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[None]]
_NO_STORE = ((b"cache-control", b"no-store"),)


class EnvdApp:
    """The ASGI callable. ``close`` releases what it holds (watchers)."""

    def __init__(
        self,
        settings: RuntimeSettings,
        state: RuntimeState,
        channel: SupervisorChannel | None = None,
    ) -> None:
        self._settings = settings
        self._state = state
        self._channel = channel
        self._context = Context(settings, state, Users(settings.etc))
        self._metrics = Metrics()
        self._filesystem = FilesystemService(self._context)
        self._processes = ProcessService(self._context, channel if isinstance(channel, Channel) else None)
        methods = {**self._processes.methods(), **self._filesystem.methods()}
        self._rpc = Rpc(methods, settings.max_message)
        self._routes = self._rest()

    def _rest(self) -> dict[str, dict[str, Handler]]:
        context = self._context
        return {
            "/health": {"GET": self._health, "HEAD": self._health},
            "/metrics": {"GET": self._serve_metrics},
            "/envs": {"GET": self._envs},
            "/init": {"POST": lambda r: init.serve_init(r, self._state, self._settings, self._channel)},
            "/freeze": {"POST": lambda r: freeze.serve_freeze(r, self._state, self._channel)},
            "/unfreeze": {"POST": lambda r: freeze.serve_unfreeze(r, self._state, self._channel)},
            "/files": {
                "GET": lambda r: serve_download(r, context),
                "HEAD": lambda r: serve_download(r, context),
                "POST": lambda r: serve_upload(r, context),
            },
            "/files/compose": {"POST": lambda r: serve_compose(r, context)},
        }

    def adopt(self) -> None:
        """Take over what outlived the previous server process. Called once, before serving."""
        self._processes.adopt()

    def close(self) -> None:
        """Release watchers; the processes of clients go on."""
        self._filesystem.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive, send)
        started = False

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        request.send = watched
        try:
            await self._route(request)
        except Disconnected:
            return
        except HttpError as error:
            if not started:
                await respond_error(send, error)
        except Exception as failure:
            log.exception("%s %s failed", request.method, request.path)
            if started:
                raise
            await respond_error(send, HttpError(500, f"{type(failure).__name__}: {failure}"))

    async def _route(self, request: Request) -> None:
        if request.method == "OPTIONS":
            await respond(request.send, 204, headers=PREFLIGHT)
            return
        if self._state.sealed is not None and request.path not in ("/health", "/init"):
            raise HttpError(503, "the sandbox's container was started again and is being initialised; try again")
        auth.check_token(request, self._state)
        if request.path in self._rpc:
            await self._rpc.serve(request, Call(request, self._settings.keepalive))
            return
        by_method = self._routes.get(request.path)
        if by_method is None:
            raise HttpError(404, f"no such path: {request.path}")
        handler = by_method.get(request.method)
        if handler is None:
            allowed = ", ".join(by_method)
            body = {"code": 405, "message": f"{request.path} takes {allowed}, not {request.method}"}
            await respond_json(request.send, 405, body, ((b"allow", allowed.encode()),))
            return
        await handler(request)

    async def _health(self, request: Request) -> None:
        await respond(request.send, 204, headers=_NO_STORE)

    async def _envs(self, request: Request) -> None:
        await respond_json(request.send, 200, self._state.env, _NO_STORE)

    async def _serve_metrics(self, request: Request) -> None:
        await respond_json(request.send, 200, self._metrics.read(), _NO_STORE)
