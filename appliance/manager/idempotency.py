"""``Idempotency-Key``: a create that is sent again gives the same sandbox, not another one.

SDKs replay creates after time-outs and 5xx. While the first attempt runs, a replay in this process waits for it; once
it is done, the digest on the sandbox (in ``E2B_LIFECYCLE``, its start in a label) answers replays on every replica for
as long as the sandbox lives; the cluster is asked once for it, since a watch may lag behind. A failed attempt leaves
nothing, so its replay starts anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from appliance.manager.errors import Fault, invalid
from appliance.manager.keys.model import ApiKey
from appliance.manager.roster import Entry
from appliance.manager.runstate import Run

FRESH = timedelta(minutes=10)
"""A sandbox this young may not have been finished by the manager that took it; a claim takes at most so long."""
REMEMBERED = 4096
"""Requests that are known to have been finished here."""
_FORM = re.compile(r"[A-Za-z0-9_-]{1,255}")


def digests(key: ApiKey, header: str, body: bytes) -> tuple[str, str]:
    """What is stored of a request: its key (per API key) and its body, both hashed. Raises Fault 400."""
    if _FORM.fullmatch(header) is None:
        raise invalid("Idempotency-Key", "expected 1 to 255 of [A-Za-z0-9_-]")
    request = hashlib.sha256(f"{key.id}\n{header}".encode()).hexdigest()
    return request, hashlib.sha256(body).hexdigest()


class Replays:
    """Creates in flight by digest, bounded by the requests that are in flight; and those that ended here lately."""

    def __init__(self, find: Callable[[str], Awaitable[tuple[Entry, Run] | None]], now: Callable[[], datetime]) -> None:
        """``find``: the living sandbox that a request with this digest made, wherever it was made."""
        self._find = find
        self._now = now
        self._flying: dict[str, tuple[str, asyncio.Future[None]]] = {}
        self._done: OrderedDict[str, None] = OrderedDict()

    async def once(
        self,
        request: str,
        body: str,
        create: Callable[[], Awaitable[Entry]],
        finish: Callable[[Entry], Awaitable[None]],
    ) -> Entry:
        """The sandbox that this request made before, or the one that ``create`` makes now.

        One that another manager took a short while ago is finished first: that manager may have died over it.

        Raises:
            Fault: 422 when the key came with another body before, 409 while another manager is making it.
        """
        while (flying := self._flying.get(request)) is not None:
            _same(flying[0], body)
            await asyncio.wait([flying[1]])
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flying[request] = (body, done)
        try:
            found = await self._find(request)
            entry = await create() if found is None else await self._known(request, body, *found, finish)
            self._remember(request)
            return entry
        finally:
            del self._flying[request]
            done.set_result(None)

    async def _known(
        self, request: str, body: str, entry: Entry, run: Run, finish: Callable[[Entry], Awaitable[None]]
    ) -> Entry:
        _same(entry.options.request_body, body)
        if run is Run.STARTING:
            message = f'Sandbox "{entry.sandbox_id}" is still being made for this Idempotency-Key'
            headers = {"Retry-After": "1", "Should-Retry": "true"}
            raise Fault(409, message, error_code="sandbox_start_in_flight", headers=headers)
        if run is Run.RUNNING and request not in self._done and self._now() - entry.started_at < FRESH:
            await finish(entry)
        return entry

    def _remember(self, request: str) -> None:
        self._done[request] = None
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)


def _same(known: str | None, body: str) -> None:
    if known != body:
        raise Fault(422, "Idempotency-Key was used before with a different request body")
