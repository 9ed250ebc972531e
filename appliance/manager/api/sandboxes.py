"""``/sandboxes`` and ``/v2/sandboxes``: create, list, read, metrics."""

from __future__ import annotations

from dataclasses import replace

from quart import Blueprint, Response, request

from appliance.claims.errors import InitFailed
from appliance.claims.header_rules import stored_rules
from appliance.manager import create, guest, idempotency, listing, receipts, view
from appliance.manager.api.answers import json_response, window
from appliance.manager.bodies import NewSandbox, raw_body, read
from appliance.manager.errors import Fault, invalid
from appliance.manager.roster import Entry
from appliance.manager.runstate import Run
from appliance.manager.services import caller, services

blueprint = Blueprint("sandboxes", __name__)
MAX_METRIC_IDS = 100


@blueprint.post("/sandboxes")
async def create_v1() -> Response:
    """Create with v1's defaults."""
    return await _create(v2=False)


@blueprint.post("/v2/sandboxes")
async def create_v2() -> Response:
    """Create with v2's defaults: 300 s, always secured."""
    return await _create(v2=True)


async def _create(*, v2: bool) -> Response:
    wired, key = services(), caller()
    body = await read(NewSandbox)
    planned = create.plan(body, v2=v2, now=wired.now(), max_timeout=wired.settings.max_timeout)
    if not planned.options.auto_pause_memory:
        await wired.abilities.require_file_pauses("autoPauseMemory: false")
    if planned.network.egress or not planned.network.internet:
        await wired.abilities.require_network("network" if body.network else "allow_internet_access: false")
    header = request.headers.get("Idempotency-Key")
    if header is None:
        entry = await wired.creator.create(key, body.template_id, planned)
        wired.receipts.offer(request.headers.get(receipts.HEADER), entry)
    else:
        asked, sent = idempotency.digests(key, header, await raw_body())
        marked = planned.marked(asked, sent)
        entry = await wired.replays.once(
            asked,
            sent,
            lambda: wired.creator.create(key, body.template_id, marked),
            lambda known: wired.creator.finish(key, marked, known),
        )
    return json_response(view.handle(entry, wired.settings.domain), 201)


@blueprint.get("/sandboxes")
async def list_v1() -> Response:
    """Running ones, newest first, all of them."""
    query = listing.Query(
        metadata=listing.parse_metadata(request.args.get("metadata", "")),
        states=frozenset({"running"}),
        limit=1_000_000,
    )
    page = listing.select(services().roster.visible(caller()), query)
    return json_response([_listed(*pair) for pair in page.items])


@blueprint.get("/v2/sandboxes")
async def list_v2() -> Response:
    """Filtered, ordered, in pages."""
    wired, key = services(), caller()
    query = listing.parse(request.args, request.args.getlist("state"))
    if query.template is not None:
        query = replace(query, template=wired.templates.canonical(key, query.template))
    page = listing.select(wired.roster.visible(key), query)
    headers = {"X-Total-Running": str(page.running)} if "running" in query.states else {}
    if page.next_token is not None:
        headers["X-Next-Token"] = page.next_token
    return json_response([_listed(*pair) for pair in page.items], headers=headers)


@blueprint.get("/sandboxes/<sandbox_id>")
async def detail(sandbox_id: str) -> Response:
    """Everything about one."""
    wired = services()
    entry, run = await wired.entry(sandbox_id)
    sizes = wired.sizer.of_sandbox(entry.sandbox)
    try:
        rules = await stored_rules(wired.cluster, entry.sandbox)
    except InitFailed as error:
        raise Fault(500, str(error)) from error
    return json_response(view.detail(entry, run, sizes, wired.settings.domain, rules))


@blueprint.get("/sandboxes/metrics")
async def metrics_of_many() -> Response:
    """The latest sample of each sandbox asked for; unknown ones are left out."""
    wired, key = services(), caller()
    ids = [part for part in ",".join(request.args.getlist("sandbox_ids")).split(",") if part]
    if not 1 <= len(ids) <= MAX_METRIC_IDS:
        raise invalid("sandbox_ids", f"expected 1 to {MAX_METRIC_IDS} ids separated by commas, got {len(ids)}")
    latest = {}
    for entry, run in ((one, wired.roster.run_of(one)) for one in map(wired.roster.get, ids) if one is not None):
        if key.may_see(entry.sandbox.namespace) and run is not Run.GONE:
            samples = await wired.guests.metrics(entry, running=run is Run.RUNNING)
            if samples:
                latest[entry.sandbox_id] = guest.render(samples[-1])
    return json_response({"sandboxes": latest})


@blueprint.get("/sandboxes/<sandbox_id>/metrics")
async def metrics(sandbox_id: str) -> Response:
    """The samples kept, between ``start`` and ``end`` (unix seconds, inclusive)."""
    wired = services()
    start, end = window()
    try:
        entry, run = await wired.entry(sandbox_id)
    except Fault:
        if wired.remembered(sandbox_id) is None:
            raise
        samples = wired.guests.history(sandbox_id.partition("-")[0])
    else:
        samples = await wired.guests.metrics(entry, running=run is Run.RUNNING)
    return json_response([guest.render(one) for one in samples if start <= one.ts <= end])


def _listed(entry: Entry, run: Run) -> dict[str, object]:
    return view.listed(entry, run, services().sizer.of_sandbox(entry.sandbox))
