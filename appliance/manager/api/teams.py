"""``/teams/{id}/metrics``: concurrent sandboxes and starts of the key's team."""

from __future__ import annotations

from quart import Blueprint, Response, request

from appliance.manager import team_metrics
from appliance.manager.api.answers import json_response, window
from appliance.manager.errors import Fault, invalid
from appliance.manager.services import caller, services
from appliance.manager.team_metrics import Sample

blueprint = Blueprint("teams", __name__)
METRICS = ("concurrent_sandboxes", "sandbox_start_rate")


@blueprint.get("/teams/<team_id>/metrics")
async def metrics(team_id: str) -> Response:
    """The samples kept, between ``start`` and ``end`` (unix seconds, inclusive)."""
    return json_response([team_metrics.render(one) for one in _samples(team_id)])


@blueprint.get("/teams/<team_id>/metrics/max")
async def highest(team_id: str) -> Response:
    """The highest value of one metric in that time."""
    metric = request.args.get("metric", "")
    if metric not in METRICS:
        raise invalid("metric", f"expected {' or '.join(METRICS)}, got {metric[:80]!r}")
    now = int(services().now().timestamp())
    return json_response(team_metrics.highest(_samples(team_id), metric, now))


def _samples(team_id: str) -> list[Sample]:
    key = caller()
    start, end = window()
    if not key.may_see(team_id):
        raise Fault(403, f"team {team_id[:80]!r} is not the team of this API key")
    return services().teams.between(team_id, start, end)
