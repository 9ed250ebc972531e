"""``…/logs`` in both forms: what happened to a sandbox and what it wrote, also for a while after its end."""

from __future__ import annotations

from datetime import UTC, datetime

from quart import Blueprint, Response, request

from appliance.manager import sandbox_logs
from appliance.manager.api.answers import bounded, json_response, whole
from appliance.manager.errors import Fault, invalid, sandbox_not_found
from appliance.manager.journal import Line
from appliance.manager.sandbox_logs import LEVELS, Question
from appliance.manager.services import services

blueprint = Blueprint("logs", __name__)
MAX_LIMIT = 1000
MAX_SEARCH = 256


@blueprint.get("/sandboxes/<sandbox_id>/logs")
async def logs_v1(sandbox_id: str) -> Response:
    """Deprecated: lines as JSON text, oldest first, from ``start`` (unix milliseconds) on."""
    lines = await _read(sandbox_id, Question(start=_instant("start"), limit=bounded("limit", MAX_LIMIT, MAX_LIMIT)))
    return json_response(sandbox_logs.render_v1(lines))


@blueprint.get("/v2/sandboxes/<sandbox_id>/logs")
async def logs_v2(sandbox_id: str) -> Response:
    """Lines from ``cursor`` (unix milliseconds) on, or backward from there."""
    search = request.args.get("search", "")
    if len(search) > MAX_SEARCH:
        raise invalid("search", f"expected at most {MAX_SEARCH} characters, got {len(search)}")
    backward = _choice("direction", "forward", ("forward", "backward")) == "backward"
    level = _choice("level", "debug", LEVELS)
    lines = await _read(
        sandbox_id, Question(_instant("cursor"), bounded("limit", MAX_LIMIT, MAX_LIMIT), backward, level, search)
    )
    return json_response({"logs": [sandbox_logs.render(one) for one in lines]})


async def _read(sandbox_id: str, question: Question) -> list[Line]:
    wired = services()
    try:
        entry, _ = await wired.entry(sandbox_id)
    except Fault:
        sandbox = None
    else:
        sandbox = entry.sandbox
    record = wired.remembered(sandbox_id)
    if record is None:
        raise sandbox_not_found(sandbox_id)
    return await wired.logs.read(record, sandbox, question)


def _instant(name: str) -> datetime | None:
    if name not in request.args:
        return None
    milliseconds = whole(name, 0, "unix milliseconds")
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise invalid(name, f"expected unix milliseconds, got {milliseconds}") from None


def _choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    text = request.args.get(name, default)
    if text not in allowed:
        raise invalid(name, f"expected one of {', '.join(allowed)}, got {text[:80]!r}")
    return text
