"""``Idempotency-Key``: a create that is sent again gives the same sandbox, not another one.

SDKs replay creates after time-outs and 5xx. While the first attempt runs, a replay in this process waits for it; once
it is done, the digest on the sandbox (in ``E2B_LIFECYCLE``) answers replays on every replica for as long as the sandbox
lives. A failed attempt leaves nothing, so its replay starts anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable

from appliance.manager.errors import Fault, invalid
from appliance.manager.keys.model import ApiKey
from appliance.manager.roster import Entry, Roster

_FORM = re.compile(r"[A-Za-z0-9_-]{1,255}")


def digests(key: ApiKey, header: str, body: bytes) -> tuple[str, str]:
    """What is stored of a request: its key (per API key) and its body, both hashed. Raises Fault 400."""
    if _FORM.fullmatch(header) is None:
        raise invalid("Idempotency-Key", "expected 1 to 255 of [a-z0-9-]")
    request = hashlib.sha256(f"{key.id}\n{header}".encode()).hexdigest()
    return request, hashlib.sha256(body).hexdigest()


class Replays:
    """Creates in flight by digest; bounded by the requests that are in flight."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._flying: dict[str, tuple[str, asyncio.Future[None]]] = {}

    async def once(self, request: str, body: str, create: Callable[[], Awaitable[Entry]]) -> Entry:
        """The sandbox that this request made before, or the one that ``create`` makes now.

        Raises:
            Fault: 422 when the key came with another body before.
        """
        while (flying := self._flying.get(request)) is not None:
            _same(flying[0], body)
            await asyncio.wait([flying[1]])
        known = self._roster.by_request(request)
        if known is not None:
            _same(known.options.request_body, body)
            return known
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flying[request] = (body, done)
        try:
            return await create()
        finally:
            del self._flying[request]
            done.set_result(None)


def _same(known: str | None, body: str) -> None:
    if known != body:
        raise Fault(422, "Idempotency-Key was used before with a different request body")
