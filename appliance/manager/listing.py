"""Lists: filters, order and pages (contract §1.5, "Query encoding details"); pure.

A page's token holds the position (start instant and id) of its last item, so sandboxes that come or go between two
pages neither repeat nor hide others.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import unquote_plus

from appliance.api import times
from appliance.manager import metadata
from appliance.manager.errors import invalid
from appliance.manager.roster import Entry
from appliance.manager.runstate import PAUSED_RUNS, Run

MAX_LIMIT = 100
MAX_LAYERS = 3
"""Times a metadata filter is unwrapped before it is refused."""
_TWOFOLD = re.compile(r"(?:[^%]|%(?:25|2F|7E|21|2A|27|28|29))*", re.IGNORECASE | re.DOTALL)
"""Encoded twice, an escape is a ``%25``, or of a character that the first pass may leave alone: ``/~!*'()``."""
STATES = frozenset({"running", "paused"})


@dataclass(frozen=True)
class Query:
    """One list request."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    states: frozenset[str] = STATES
    ascending: bool = False
    started_after: datetime | None = None
    """Inclusive."""
    template: str | None = None
    limit: int = MAX_LIMIT
    after: tuple[datetime, str] | None = None
    """Position of the last item of the page before."""


@dataclass(frozen=True)
class Page:
    """One page; ``next_token`` None: the last."""

    items: list[tuple[Entry, Run]]
    next_token: str | None
    running: int
    """Running sandboxes that match the filter, on all pages."""


def parse(arguments: Mapping[str, str], states: Iterable[str] = ()) -> Query:
    """The query string's parameters; ``states`` are all values of ``state``. Raises Fault 400 naming the parameter."""
    ascending = _choice("order", arguments.get("order", "desc"), ("asc", "desc")) == "asc"
    token, started = arguments.get("nextToken"), arguments.get("startedAfter")
    return Query(
        metadata=parse_metadata(arguments.get("metadata", "")),
        states=_states(",".join(states)),
        ascending=ascending,
        started_after=_instant(started) if started else None,
        template=_template(arguments.get("template")),
        limit=parse_limit(arguments.get("limit")),
        after=_position(token, ascending=ascending) if token else None,
    )


def select(entries: Iterable[tuple[Entry, Run]], query: Query) -> Page:
    """The page that the query asks for."""
    matching = [pair for pair in entries if _matches(pair[0], query)]
    running = sum(run is Run.RUNNING for _, run in matching) if "running" in query.states else 0
    chosen = [pair for pair in matching if _state(pair[1]) in query.states]
    chosen.sort(key=lambda pair: (pair[0].started_at, pair[0].sandbox_id), reverse=not query.ascending)
    if query.after is not None:
        chosen = [pair for pair in chosen if _beyond(pair[0], query.after, ascending=query.ascending)]
    items, more = chosen[: query.limit], len(chosen) > query.limit
    return Page(items, _token(items[-1][0], ascending=query.ascending) if more else None, running)


def parse_metadata(text: str) -> dict[str, str]:
    """A metadata filter, however often it was encoded.

    SDKs encode keys and values, then the pairs, some the whole again; others send the pairs encoded once, or plain.
    A text without ``=`` is unwrapped until it has one; then ``_TWOFOLD`` tells whether it was encoded twice.
    """
    if not text:
        return {}
    for _ in range(MAX_LAYERS):
        if "=" in text:
            break
        text = unquote_plus(text)
    if _TWOFOLD.fullmatch(text):
        text = unquote_plus(text)
    pairs = {}
    for part in text.split("&"):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise invalid("metadata", f"expected key=value pairs joined by &, got {part!r}")
        pairs[unquote_plus(key)] = unquote_plus(value)
    return pairs


def parse_limit(text: str | None) -> int:
    """``limit``: 1 to 100, default 100."""
    if text is None:
        return MAX_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_LIMIT):
        raise invalid("limit", f"expected a whole number from 1 to {MAX_LIMIT}, got {text!r}")
    return int(text)


def _matches(entry: Entry, query: Query) -> bool:
    if query.started_after is not None and entry.started_at < query.started_after:
        return False
    if query.template is not None and entry.template != query.template:
        return False
    if not query.metadata:
        return True
    own = metadata.returned(entry.sandbox.meta.annotations)
    return all(own.get(key) == value for key, value in query.metadata.items())


def _state(run: Run) -> str:
    return "paused" if run in PAUSED_RUNS else "running"


def _beyond(entry: Entry, after: tuple[datetime, str], *, ascending: bool) -> bool:
    position = (entry.started_at, entry.sandbox_id)
    return position > after if ascending else position < after


def _token(entry: Entry, *, ascending: bool) -> str:
    text = f"{times.format(entry.started_at, micro=True)}__{entry.sandbox_id}" + ("__asc" if ascending else "")
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _position(token: str, *, ascending: bool) -> tuple[datetime, str]:
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
        started, sandbox_id, *order = text.split("__")
        position = times.parse(started), sandbox_id
    except (binascii.Error, ValueError):
        raise invalid("nextToken", "expected a token from the X-Next-Token header of the page before") from None
    if (order == ["asc"]) != ascending:
        raise invalid("nextToken", "it was issued for the other order")
    return position


def _states(text: str) -> frozenset[str]:
    if not text:
        return STATES
    return frozenset(_choice("state", part.strip(), ("running", "paused")) for part in text.split(","))


def _choice(name: str, text: str, allowed: tuple[str, ...]) -> str:
    if text not in allowed:
        raise invalid(name, f"expected {' or '.join(allowed)}, got {text!r}")
    return text


def _template(text: str | None) -> str | None:
    if not text:
        return None
    if ":" in text:
        raise invalid("template", "expected a template id or alias without a tag")
    return text.rpartition("/")[2].lower()


def _instant(text: str) -> datetime:
    # A "+" of the offset that was not percent-encoded arrives as a space.
    try:
        return times.parse(text.replace(" ", "+"))
    except ValueError:
        raise invalid("startedAfter", f"expected an RFC 3339 instant, got {text!r}") from None
