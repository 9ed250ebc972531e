"""``/health`` and ``/metrics``: for whoever operates this; no key needed, nothing told about anybody."""

from __future__ import annotations

from quart import Blueprint, Response

from appliance.manager.errors import Fault
from appliance.manager.services import services

blueprint = Blueprint("operations", __name__)
ANONYMOUS = frozenset({"health", "metrics_page"})


@blueprint.get("/health")
async def health() -> Response:
    """200 once the caches are filled."""
    if not services().ready():
        raise Fault(503, "starting: the caches are not filled yet", headers={"Retry-After": "1"})
    return Response("Health check successful", 200, content_type="text/plain; charset=utf-8")


@blueprint.get("/metrics")
async def metrics_page() -> Response:
    """Prometheus text."""
    wired = services()
    text = wired.observed.render(wired.gateway.stats, wired.roster.counts(), wired.outcomes)
    text += "".join(f"{line}\n" for line in wired.cluster.metrics.lines())
    return Response(text, 200, content_type="text/plain; version=0.0.4; charset=utf-8")
