"""The code interpreter's HTTP interface, port 49999 (contract §3): a bare ASGI application.

``/execute`` answers a stream of JSON lines that always ends with ``end_of_execution``: also after a kernel's death,
and never after the client's, whose leaving interrupts the cell. Errors before the stream starts are plain text or,
for requests that are not understood, JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

import msgspec

from appliance.runtime.http import (
    CORS,
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
from appliance.runtime.interpreter import events, languages
from appliance.runtime.interpreter.context import Context
from appliance.runtime.interpreter.contexts import Contexts, UnknownContext
from appliance.runtime.interpreter.kernels import KernelError, Kernels
from appliance.runtime.state import RuntimeState
from appliance.runtime.supervise.channel import Channel

MAX_BODY: Final = 64 * 1024 * 1024
"""Bytes of a request, code included."""
KEEPALIVE: Final = 5.0
"""Seconds without output before a keepalive line."""
_BATCH: Final = 64 * 1024
"""Bytes of lines joined into one chunk when they are there already."""
_RETRY: Final = 1.0
"""Seconds between attempts to start the first kernel."""


class ExecuteBody(msgspec.Struct):
    """Body of ``POST /execute``."""

    code: str
    context_id: str | None = None
    language: str | None = None
    env_vars: dict[str, str] | None = None


class ContextBody(msgspec.Struct):
    """Body of ``POST /contexts``."""

    cwd: str | None = None
    language: str | None = None


class PlainError(Exception):
    """An answer with a text body, as the contract has it for these."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Interpreter:
    """The application. ``start`` before serving, ``close`` afterwards; or let the ASGI lifespan do it."""

    def __init__(self, state: RuntimeState, kernels: Kernels) -> None:
        self._state = state
        self._contexts = Contexts(kernels)
        self._starter: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to warm the default context, in the background; ``/health`` tells when it is there."""
        if self._starter is None:
            self._starter = asyncio.create_task(self._warm_up(), name="interpreter warm-up")

    async def close(self) -> None:
        """Stop; the kernels live on and belong to the supervisor."""
        if self._starter is not None:
            self._starter.cancel()
            await asyncio.gather(self._starter, return_exceptions=True)
        await self._contexts.close()

    async def _warm_up(self) -> None:
        while True:
            try:
                await self._contexts.start()
            except KernelError as error:
                sys.stderr.write(f"interpreter: no default kernel: {error}\n")
                await asyncio.sleep(_RETRY)
            else:
                return

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self.start()
            await self._http(Request(scope, receive, send))
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, request: Request) -> None:
        try:
            await self._route(request)
        except PlainError as error:
            await respond(request.send, error.status, error.text.encode(), content_type=b"text/plain; charset=utf-8")
        except HttpError as error:
            await respond_error(request.send, error)
        except Disconnected:
            return

    async def _route(self, request: Request) -> None:
        match request.method, request.path.strip("/").split("/"):
            case "OPTIONS", _:
                await respond(request.send, 204, headers=PREFLIGHT)
            case "GET" | "HEAD", ["health"]:
                await self._health(request)
            case "POST", ["execute"]:
                await self._execute(request)
            case "POST", ["contexts"]:
                await self._create(request)
            case "GET", ["contexts"]:
                await respond_json(request.send, 200, [_described(context) for context in await self._contexts.all()])
            case "DELETE", ["contexts", context_id]:
                await self._remove(request, context_id)
            case "POST", ["contexts", context_id, "restart"]:
                await self._restart(request, context_id)
            case _, ["health"] | ["execute"] | ["contexts"] | ["contexts", _] | ["contexts", _, "restart"]:
                raise HttpError(405, f"{request.method} is not allowed for {request.path}")
            case _:
                raise HttpError(404, f"there is nothing at {request.path}")

    async def _health(self, request: Request) -> None:
        if not self._contexts.warm:
            raise HttpError(503, "the default Python context is not ready yet")
        await respond_json(request.send, 200, "OK")

    # Contexts -----------------------------------------------------------------------------------------------------
    async def _create(self, request: Request) -> None:
        body = await _body(request, ContextBody)
        try:
            context = await self._contexts.create(languages.normalise(body.language), body.cwd)
        except KernelError as error:
            raise PlainError(500, str(error)) from None
        await respond_json(request.send, 200, _described(context))

    async def _remove(self, request: Request, context_id: str) -> None:
        try:
            await self._contexts.remove(context_id)
        except UnknownContext:
            raise _unknown(context_id) from None
        await respond_json(request.send, 200, None)

    async def _restart(self, request: Request, context_id: str) -> None:
        try:
            await self._contexts.get(context_id).restart()
        except UnknownContext:
            raise _unknown(context_id) from None
        except KernelError as error:
            raise PlainError(500, str(error)) from None
        await respond_json(request.send, 200, None)

    # Executing ----------------------------------------------------------------------------------------------------
    async def _execute(self, request: Request) -> None:
        body = await _body(request, ExecuteBody)
        context = await self._context(body)
        stream = asyncio.create_task(self._stream(request, context, body))
        left = asyncio.create_task(request.disconnected())
        try:
            await asyncio.wait({stream, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            if not stream.done():
                stream.cancel()
                await asyncio.gather(stream, return_exceptions=True)
        if not stream.cancelled():
            stream.result()

    async def _context(self, body: ExecuteBody) -> Context:
        if body.context_id and body.language:
            raise PlainError(400, "Only one of context_id or language can be provided")
        if body.context_id:
            try:
                return self._contexts.get(body.context_id)
            except UnknownContext:
                raise _unknown(body.context_id) from None
        try:
            return await self._contexts.default(languages.normalise(body.language))
        except KernelError as error:
            raise PlainError(500, str(error)) from None

    async def _stream(self, request: Request, context: Context, body: ExecuteBody) -> None:
        send = request.send
        await send({"type": "http.response.start", "status": 200, "headers": [*CORS]})
        cell = context.execute(body.code, self._state.env, body.env_vars or {})
        async with contextlib.aclosing(_lines(cell, request.on_doubt)) as lines:
            async for chunk in lines:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": events.END})


def create_app(state: RuntimeState, channel: Channel) -> Interpreter:
    """The ASGI application for port 49999, with its kernels behind ``channel``. Call it in the running loop.

    The default context starts to warm up at ``start()``, at the latest with the first request.
    """
    return Interpreter(state, Kernels(channel.settings, channel))


async def _lines(
    cell: AsyncGenerator[Any, None], on_doubt: Callable[[Callable[[], None]], None]
) -> AsyncGenerator[bytes, None]:
    """Events as chunks of lines, with keepalives in the pauses and in doubt. Closing it closes the cell."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(64)

    def doubt() -> None:
        with contextlib.suppress(asyncio.QueueFull):  # then there is enough to send
            queue.put_nowait(events.KEEPALIVE)

    on_doubt(doubt)
    pump = asyncio.create_task(_pump(cell, queue))
    try:
        while True:
            try:
                async with asyncio.timeout(KEEPALIVE):
                    chunk = await queue.get()
            except TimeoutError:
                yield events.KEEPALIVE
                continue
            while chunk is not None and len(chunk) < _BATCH and not queue.empty() and (more := queue.get_nowait()):
                chunk += more
            if chunk is None:
                return
            yield chunk
            if pump.done() and queue.empty():
                return
    finally:
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)


async def _pump(cell: AsyncGenerator[Any, None], queue: asyncio.Queue[bytes | None]) -> None:
    try:
        async with contextlib.aclosing(cell) as stream:
            async for event in stream:
                await queue.put(events.line(event))
    except Exception as error:
        # The stream must end properly whatever happens: a client waits for it.
        sys.stderr.write(f"interpreter: execution failed: {error!r}\n")
        await queue.put(events.line(events.error("UnexpectedEndOfExecution", str(error) or type(error).__name__)))
    await queue.put(None)


def _described(context: Context) -> dict[str, str]:
    return {"id": context.id, "language": context.language, "cwd": context.cwd}


def _unknown(context_id: str) -> PlainError:
    return PlainError(404, f"Context {context_id} not found")


async def _body(request: Request, kind: type[Any]) -> Any:
    raw = await request.body(MAX_BODY)
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise HttpError(422, f"the request is not valid: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(422, f"the request is not JSON: {error}") from None
