"""One request and its answer: from the route's decision to the last byte.

An exchange belongs to its client connection and borrows one upstream connection. Until that is there, the request's
bytes are held (bounded; the client is paused beyond ``buffer_high``). When a kept connection turns out to be dead
before a byte of an answer, an idempotent request is sent once more on a new one; anything else is never sent twice.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from appliance.gateway import errors
from appliance.gateway.bodies import Body, BodyError, ChunkedBody, LengthBody
from appliance.gateway.compose import compose_request, masked_host
from appliance.gateway.dial import DialError
from appliance.gateway.errors import Problem
from appliance.gateway.pool import CONTROL_KEY, Key
from appliance.gateway.routes import Credentials, Refusal, Route
from appliance.gateway.target import (
    PORT_ENVD,
    PORT_EVENTS,
    RUNTIME_PORTS,
    ControlTarget,
    InvalidAddress,
    SandboxTarget,
    decide,
    reserved,
)

if TYPE_CHECKING:
    from appliance.gateway.client import Client
    from appliance.gateway.request_head import RequestHead
    from appliance.gateway.response_head import ResponseHead
    from appliance.gateway.upstream import Upstream

log = logging.getLogger("appliance.gateway")

_NOTHING: Final[list[bytes]] = []
"""No bytes held; never written to."""
REPLAY_LIMIT: Final = 64 * 1024
"""Bytes of a request kept for sending it again."""
UNSAFE_REUSE: Final = 1.0
"""Seconds; requests that cannot be repeated use only connections idle for less."""


class Exchange:
    """Made by ``client.py`` for each head; ``start`` is called once, right after."""

    __slots__ = (
        "_body",
        "_held",
        "_held_size",
        "_hub",
        "_limit",
        "_receipt",
        "_registered",
        "_replay",
        "_route",
        "_task",
        "client",
        "end_passed",
        "keep_alive",
        "kind",
        "raw",
        "request",
        "request_done",
        "responded",
        "target",
        "upstream",
    )  # fmt: skip

    def __init__(self, client: Client, request: RequestHead) -> None:
        self._hub = client.hub
        self.client = client
        self.request = request
        self.target: ControlTarget | SandboxTarget | None = None
        self.kind = "invalid"
        """What the answer is counted as."""
        self.upstream: Upstream | None = None
        self.keep_alive = request.keep_alive
        self.request_done = not request.has_body
        self.responded = False
        """A final head was sent to the client, ours or the upstream's."""
        self.raw = False
        """Switched protocols: bytes pass unread."""
        self._body: Body | None = _framing(request)
        self.end_passed = False
        """The upstream was told that the client sends no more; it takes no other request."""
        self._held = _NOTHING
        self._held_size = 0
        self._limit: int | None = None
        self._receipt: str | None = None
        self._replay: list[bytes] | None = None
        self._route: Route | None = None
        self._registered: str | None = None
        self._task: asyncio.Task[None] | None = None

    # The route ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Decide the target; connect, or answer."""
        try:
            self.target = target = decide(self.request)
        except InvalidAddress as error:
            self.refuse(Problem(400, str(error), plain=True))
            return
        if isinstance(target, ControlTarget):
            self._to_control(target)
        else:
            self._to_sandbox(target)

    def _to_control(self, target: ControlTarget) -> None:
        self.kind = "control"
        self._limit = self._hub.settings.max_control_body
        if (self.request.fields.length or 0) > self._limit:
            self.refuse(errors.BODY_TOO_LARGE)
            return
        if self.request.method == b"POST":
            self._receipt = self._hub.receipt()
        head = compose_request(
            self.request, target.path, self.request.host, target.prefix, self.client.origin, receipt=self._receipt
        )
        self._connect(CONTROL_KEY, head)

    def _to_sandbox(self, target: SandboxTarget) -> None:
        self.kind = "sandbox"
        if target.port == PORT_ENVD and reserved(target.path):
            self.refuse(errors.reserved(target.path.partition(b"?")[0].decode("latin-1")))
            return
        answer = self._hub.routes.resolve(target.sandbox_id, target.port)
        known = answer is not Refusal.NOT_FOUND
        if (not isinstance(answer, Route) or _liveness(target)) and self._hub.may_ask(target.sandbox_id, known=known):
            self._task = self._hub.loop.create_task(self._guarded(lambda: self._refreshed(target)))
        else:
            self._decided(target, answer)

    async def _refreshed(self, target: SandboxTarget) -> None:
        await self._hub.refresh(target.sandbox_id)
        self._task = None
        self._decided(target, self._hub.routes.resolve(target.sandbox_id, target.port))

    def _decided(self, target: SandboxTarget, answer: Route | Refusal) -> None:
        if isinstance(answer, Route):
            self._register(target.sandbox_id)
            self._routed(target, answer)
        elif answer is Refusal.PAUSED_RESUMABLE:
            if not self._hub.routes.admits(target.sandbox_id, target.port, self._credentials(target)):
                self.refuse(errors.refused(Refusal.RESUME_DENIED, target.sandbox_id))
                return
            self._register(target.sandbox_id)
            self._task = self._hub.loop.create_task(self._guarded(lambda: self._wake(target)))
        else:
            self.refuse(errors.refused(answer, target.sandbox_id))

    def _register(self, sandbox_id: str) -> None:
        """From here on ``Gateway.reset`` finds us, until ``cancel``."""
        self._registered = sandbox_id
        self._hub.register(sandbox_id, self)

    def _credentials(self, target: SandboxTarget) -> Credentials:
        fields = self.request.fields
        return Credentials(self.request.method, target.path, fields.access_token, fields.traffic_token)

    async def _wake(self, target: SandboxTarget) -> None:
        problem = await self._hub.wake(target.sandbox_id)
        self._task = None
        if problem is not None:
            self.refuse(problem)
            return
        answer = self._hub.routes.resolve(target.sandbox_id, target.port)
        if isinstance(answer, Route):
            self._routed(target, answer)
        else:
            self._refuse_awake(answer, target)

    def _refuse_awake(self, answer: Refusal, target: SandboxTarget) -> None:
        """Refuse without waking: a sandbox that could be woken is between two states."""
        between = Refusal.TRANSITIONING if answer is Refusal.PAUSED_RESUMABLE else answer
        self.refuse(errors.refused(between, target.sandbox_id))

    def _routed(self, target: SandboxTarget, route: Route) -> None:
        request = self.request
        if target.port in (route.tunnel_port, PORT_EVENTS):  # ours, not services of the sandbox
            self.refuse(errors.port_closed(target.sandbox_id, target.port))
            return
        if route.traffic_token is not None and target.port != PORT_ENVD and not request.preflight:
            given = request.fields.traffic_token
            if given is None or not hmac.compare_digest(given, route.traffic_token.encode()):
                self.refuse(errors.traffic_token(target.sandbox_id, missing=given is None))
                return
        host = request.host
        if route.mask_host is not None and target.port != PORT_ENVD:
            host = masked_host(route.mask_host, target.port, host)
        self._route = route
        head = compose_request(request, target.path, host, target.prefix, self.client.origin)
        self._connect((route.sandbox_id, route.host, route.port), head)

    # The upstream ---------------------------------------------------------------------------------------------

    def _connect(self, key: Key, head: bytes) -> None:
        """Send ``head``, and what came of the body while it was decided, on a kept connection, or hold it and dial."""
        self._held = [head, *self._held]
        idempotent = self.request.idempotent
        patience = self._hub.settings.upstream_idle_timeout
        not_before = self._hub.loop.time() - (patience if idempotent else min(UNSAFE_REUSE, patience))
        upstream = self._hub.pool.take(key, not_before=not_before)
        if upstream is None:
            self._dial()
            return
        self._hub.stats.reuses += 1
        if idempotent:
            self._replay = list(self._held)
        self._attach_held(upstream)

    def _dial(self) -> None:
        self._task = self._hub.loop.create_task(self._guarded(self._dialled))

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """No failure may leave a client without an answer."""
        try:
            await work()
        except Exception:
            log.exception("a request could not be routed")
            self.refuse(errors.INTERNAL)

    async def _dialled(self) -> None:
        dialer, route, target = self._hub.dialer, self._route, self.target
        try:
            if route is None or not isinstance(target, SandboxTarget):
                upstream = await dialer.control()
            else:
                upstream = await dialer.sandbox(route, target.port)
        except DialError as error:
            self._task = None
            self.refuse(error.problem)
        else:
            self._task = None
            self._attach_held(upstream)

    def _attach_held(self, upstream: Upstream) -> None:
        held, self._held, self._held_size = b"".join(self._held), _NOTHING, 0
        self.client.resume_reading()  # the write below pauses it again if that must be
        self._attach(upstream, held)

    def _attach(self, upstream: Upstream, data: bytes) -> None:
        """Bind a connection to this exchange and send what is there of the request."""
        self.upstream = upstream
        upstream.exchange = self
        transport = upstream.transport
        if transport.is_closing():
            upstream.fail()
            return
        if self.client.blocked:
            transport.pause_reading()
        transport.write(data)
        if self.client.half_closed:
            self.pass_end()

    def pass_end(self) -> None:
        """The client sends no more. Our runtime is told: it finds out, in the middle of a silent answer, whether the
        client still reads. Servers of users are not: many take half a close for a whole one.
        """
        target = self.target
        if self.upstream is None or not isinstance(target, SandboxTarget) or target.port not in RUNTIME_PORTS:
            return
        if self.upstream.transport.can_write_eof():
            self.upstream.transport.write_eof()
            self.end_passed = True

    def _send(self, data: bytes) -> None:
        """Towards the upstream, now or as soon as there is one."""
        if self.upstream is not None:
            self.upstream.transport.write(data)
        else:
            self._held = [*self._held, data]
            self._held_size += len(data)
            if self._held_size > self._hub.settings.buffer_high:
                self.client.pause_reading()
        if self._replay is not None:
            self._replay.append(data)
            if sum(map(len, self._replay)) > REPLAY_LIMIT:
                self._replay = None

    # The client's side ----------------------------------------------------------------------------------------

    def request_data(self, data: bytes) -> int:
        """Body bytes; how many of them belong to this request (the rest is the next one)."""
        body = self._body
        assert body is not None
        try:
            used = body.feed(data)
        except BodyError:
            self.refuse(errors.BODY_MALFORMED)
            return len(data)
        self.request_done = body.done
        if self._limit is not None and isinstance(body, ChunkedBody) and body.size > self._limit:
            self.request_done = False
            self.refuse(errors.BODY_TOO_LARGE)
            return len(data)
        self._send(data if used == len(data) else data[:used])
        return used

    def refuse(self, problem: Problem) -> None:
        """Answer ourselves; when an answer has begun, cut it instead."""
        if self.responded:
            self.cancel()
            self.client.abort()
            return
        self.cancel()
        self.keep_alive = self.keep_alive and self.request_done and not self.request.http10 and not self._hub.draining
        self.responded = True
        request = self.request
        self._hub.stats.answered(self.kind, problem.status)
        self.client.send(
            errors.render(
                problem,
                user_agent=b"" if self.kind == "control" else request.fields.user_agent,  # an API has no pages
                head_only=request.method == b"HEAD",
                close=not self.keep_alive,
            )
        )
        self.client.exchange_done(self)

    def timed_out(self) -> None:
        """No byte in either direction for the idle time-out."""
        target = self.target
        if isinstance(target, SandboxTarget):
            self.refuse(errors.too_slow(target.sandbox_id, target.port))
        else:
            self.refuse(errors.CONTROL_TOO_SLOW)

    def reset(self) -> None:
        """The sandbox is lost. Half an answer must not look whole; without one, the client is told what it would be
        told from now on: a question that crosses the kill of its sandbox ("is it running?") has an answer."""
        target = self.target
        if not self.responded and isinstance(target, SandboxTarget):
            answer = self._hub.routes.resolve(target.sandbox_id, target.port)
            if not isinstance(answer, Route):
                self._refuse_awake(answer, target)
                return
        self.client.abort()
        self.cancel()

    def cancel(self) -> None:
        """Let go of everything: the dial, the wait, the upstream. Idempotent."""
        self._settle(delivered=False)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self.upstream is not None:
            self.upstream.release()
        self._held = _NOTHING
        if self._registered is not None:
            self._hub.unregister(self._registered, self)
            self._registered = None
        if self.raw:
            self.raw = False
            self._hub.stats.open_upgrades -= 1

    # The upstream's side --------------------------------------------------------------------------------------

    def informational(self, head: ResponseHead) -> None:
        """1xx, passed on to clients that know them."""
        if not self.request.http10:
            self.client.send(head.compose(None, decoded=False))

    def response_head(self, head: ResponseHead, *, delimited: bool, decoded: bool) -> bytes:
        """The final head for the client; ``delimited``: it can find the end of the body without our closing."""
        self.responded = True
        self.keep_alive = self.keep_alive and delimited and not decoded and not self._hub.draining
        if not self.request_done:  # answered early: what is left of the upload is not read, and the client must know
            self.keep_alive = False
        self._hub.stats.answered(self.kind, head.status)
        if not self.keep_alive:
            connection: bytes | None = b"close"
        else:
            connection = b"keep-alive" if self.request.http10 else None
        return head.compose(connection, decoded=decoded)

    def _settle(self, *, delivered: bool) -> None:
        """Say, once, what became of the answer to a numbered request."""
        receipt, self._receipt = self._receipt, None
        if receipt is not None:
            self._hub.settled(receipt, delivered)

    def completing(self) -> None:
        """What is sent next makes the answer whole: a client that has left by now is not told what it says."""
        if self._receipt is None:
            return
        if self.client.half_closed:
            receipt, self._receipt = self._receipt, None
            self.client.arrived(lambda arrived: self._hub.settled(receipt, arrived))
        else:
            self._settle(delivered=not self.client.gone())

    def response_done(self) -> None:
        """The last byte of the answer was passed on; the upstream has let go of us already."""
        self.cancel()
        self.client.exchange_done(self)

    def upstream_lost(self, exc: Exception | None) -> None:
        """The upstream went away, or broke the protocol, before its answer was complete."""
        if self.raw:
            self.cancel()
            self.client.close(abort=exc is not None)
        elif self.responded:
            self._hub.stats.truncated += 1
            self.cancel()
            # A body that ends by closing must not look complete; others are visibly too short.
            self.client.close(abort=not self.keep_alive)
        elif self._replay is not None:
            self._hub.stats.retries += 1
            self._held, self._replay = self._replay, None
            self._held_size = sum(map(len, self._held))
            self._dial()
        elif isinstance(self.target, SandboxTarget):
            self.refuse(errors.bad_answer(self.target.sandbox_id, self.target.port))
        else:
            self.refuse(errors.CONTROL_BAD_ANSWER)

    def switch(self, head: ResponseHead, rest: bytes) -> None:
        """101: from here on both directions are raw bytes."""
        self.responded = self.raw = True
        self.keep_alive = False
        self._replay = self._body = None
        self._hub.stats.answered(self.kind, 101)
        self._hub.stats.open_upgrades += 1
        self.client.send(head.compose(b"Upgrade", decoded=False) + rest)
        self.client.switched()

    def upstream_eof(self) -> bool:
        """Raw splice: the upstream has said everything; True keeps the other direction open."""
        return self.client.finish_sending()


def _liveness(target: SandboxTarget) -> bool:
    """Whether the answer tells a client that the sandbox lives: it must not come from a memory that is behind."""
    return target.port == PORT_ENVD and target.path.partition(b"?")[0] == b"/health"


def _framing(request: RequestHead) -> Body | None:
    if not request.has_body:
        return None
    fields = request.fields
    return ChunkedBody() if fields.chunked else LengthBody(fields.length or 0)
