"""The HTTP surface: a request's way from the socket to a verb and back.

    authenticate → find the resource → verb → response        (any ApiStatus on the way → a Status response)

The low-level aiohttp server is used directly: one handler, no router, no middleware, because every microsecond here
is on the path of a claim.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from appliance.embedded.apiserver import discovery, openapi
from appliance.embedded.apiserver.auth import Tokens
from appliance.embedded.apiserver.backend import Backend, Call
from appliance.embedded.apiserver.responses import failure, json_value
from appliance.embedded.apiserver.routing import route
from appliance.embedded.apiserver.status import ApiStatus, internal, method_not_allowed, unavailable, unknown_path
from appliance.embedded.apiserver.verbs import delete, patch, read, watch, write

log = logging.getLogger(__name__)
Verb = Callable[[Backend, Call], Awaitable[web.StreamResponse]]
OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version"})
VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.3+appliance",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "cpython",
    "platform": "linux/amd64",
}


class Server:
    """Handles every request of one API server."""

    def __init__(self, backend: Backend, tokens: Tokens) -> None:
        self._backend = backend
        self._tokens = tokens

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """The aiohttp handler: never raises, except for cancellation and broken connections."""
        try:
            return await self._answer(http)
        except ApiStatus as status:
            if status.reason == "AlreadyExists":
                await self._backend.store.settled()  # whoever is told so reads the object next, and must find it
            return failure(status)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            log.exception("%s %s failed", http.method, http.path)
            return failure(internal(f"{type(error).__name__}: {error}"))

    async def _answer(self, http: web.BaseRequest) -> web.StreamResponse:
        path = http.path
        if path in OPEN_PATHS:
            return self._open(path)
        user = self._tokens.identify(http.headers.get("Authorization"))
        if path.startswith("/openapi/"):
            return openapi.serve(self._backend.registry, http)
        document = discovery.find(self._backend.registry, http)
        if document is not None:
            return document
        if not path.startswith(("/api/", "/apis/")):
            raise unknown_path(path)
        target = route(self._backend.registry, http.rel_url.raw_path)
        call = Call(http, user, *target, query=http.query)
        return await self._verb(call)(self._backend, call)

    def _open(self, path: str) -> web.Response:
        if path == "/version":
            return json_value(VERSION)
        if path == "/readyz" and self._backend.stopping.is_set():
            raise unavailable("shutting down")
        return web.Response(text="ok")

    @staticmethod
    def _verb(call: Call) -> Verb:
        method = call.http.method
        if call.subresource == "exec" and method in ("GET", "POST"):
            return read.get
        if method == "GET":
            if call.flag("watch"):
                return watch.watch
            return read.list_ if call.name is None else read.get
        if method == "DELETE":
            return delete.delete_collection if call.name is None else delete.delete
        verb = _VERBS.get(method)
        if verb is None:
            raise method_not_allowed(
                call.resource, f"the server does not allow the method {method} on the requested resource"
            )
        return verb


_VERBS: dict[str, Verb] = {"POST": write.create, "PUT": write.replace, "PATCH": patch.patch}
