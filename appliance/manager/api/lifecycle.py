"""``/sandboxes/{id}/…``: connect, pause, resume, deadlines, kill."""

from __future__ import annotations

from quart import Blueprint, Response, request

from appliance.manager import view
from appliance.manager.api.answers import json_response, nothing
from appliance.manager.bodies import Connect, NetworkUpdate, Pause, Refresh, Resume, Timeout, read
from appliance.manager.create import check_timeout
from appliance.manager.errors import Fault, invalid
from appliance.manager.metadata import parse_retention
from appliance.manager.roster import Entry
from appliance.manager.runstate import Run
from appliance.manager.services import services

blueprint = Blueprint("lifecycle", __name__)
RETENTION_HEADER = "x-e2b-kruise-reserve-paused-sandbox-duration"
"""How long the paused sandbox is kept: ``forever`` or a Go duration."""
MIN_REFRESH = 15
"""Seconds a refresh extends a life at least."""


@blueprint.post("/sandboxes/<sandbox_id>/connect")
async def connect_v1(sandbox_id: str) -> Response:
    """Resume if paused; never shorten a life."""
    return await _connect(sandbox_id, default=15)


@blueprint.post("/v2/sandboxes/<sandbox_id>/connect")
async def connect_v2(sandbox_id: str) -> Response:
    """The same with v2's default of 300 s."""
    return await _connect(sandbox_id, default=300)


async def _connect(sandbox_id: str, *, default: int) -> Response:
    wired = services()
    body = await read(Connect, optional=True)
    timeout = check_timeout(body.timeout, default=default, maximum=wired.settings.max_timeout)
    entry, run = await wired.entry(sandbox_id)
    await _check_cold_boot(body.memory, run)
    resumed = await wired.lifecycle.connect(entry, timeout, memory=body.memory is not False)
    return _handle(entry, 201 if resumed else 200)


@blueprint.post("/sandboxes/<sandbox_id>/resume")
async def resume(sandbox_id: str) -> Response:
    """Deprecated: like connect, but 409 for a running one."""
    wired = services()
    body = await read(Resume, optional=True)
    timeout = check_timeout(body.timeout, default=15, maximum=wired.settings.max_timeout)
    entry, run = await wired.entry(sandbox_id)
    if run is Run.RUNNING:
        raise Fault(409, f'Sandbox "{entry.sandbox_id}" is running already')
    await _check_cold_boot(body.memory, run)
    memory = body.memory is not False
    await wired.lifecycle.resume(entry, timeout, auto_pause=body.auto_pause, memory=memory)
    return _handle(entry, 201)


@blueprint.post("/sandboxes/<sandbox_id>/pause")
async def pause(sandbox_id: str) -> Response:
    """204 once it is paused, 409 when it was."""
    wired = services()
    body = await read(Pause, optional=True)
    entry, run = await wired.entry(sandbox_id)
    memory = body.memory is not False
    if not memory:
        await wired.abilities.require_file_pauses("memory: false")
    if run is Run.RUNNING and (body.require_healthy_guest or not memory):
        await _check_guest(entry)
    kept = request.headers.get(RETENTION_HEADER)
    retention = parse_retention(RETENTION_HEADER, kept) if kept is not None else None
    await wired.lifecycle.pause(entry, retention=retention, memory=memory)
    return nothing()


async def _check_guest(entry: Entry) -> None:
    """Raise Fault 503 when the guest does not answer; one that was paused or killed meanwhile cannot, rightly."""
    wired = services()
    try:
        await wired.guests.check_health(entry)
    except Fault:
        _, run = await wired.entry(entry.sandbox_id)
        if run is Run.RUNNING:
            raise


@blueprint.post("/sandboxes/<sandbox_id>/timeout")
async def set_timeout(sandbox_id: str) -> Response:
    """End in so many seconds, also sooner than before; 0 ends it now."""
    wired = services()
    body = await read(Timeout)
    if body.timeout < 0:
        raise invalid("timeout", f"expected seconds of at least 0, got {body.timeout}")
    if body.timeout:
        check_timeout(body.timeout, default=0, maximum=wired.settings.max_timeout)
    entry, _ = await wired.entry(sandbox_id)
    await wired.lifecycle.set_timeout(entry, body.timeout)
    return nothing()


@blueprint.post("/sandboxes/<sandbox_id>/refreshes")
async def refresh(sandbox_id: str) -> Response:
    """Keep it for at least so many seconds more."""
    wired = services()
    body = await read(Refresh, optional=True)
    entry, _ = await wired.entry(sandbox_id)
    await wired.lifecycle.refresh(entry, max(body.duration, MIN_REFRESH))
    return nothing()


@blueprint.put("/sandboxes/<sandbox_id>/network")
async def set_network(sandbox_id: str) -> Response:
    """Replace what it may reach and its rules; ``{}`` opens everything that lists had closed, and clears rules."""
    wired = services()
    entry, _ = await wired.entry(sandbox_id)
    body = await read(NetworkUpdate, optional=True)
    if body.deny_out or body.rules or body.allow_internet_access is False:
        await wired.abilities.require_network("network")
    await wired.lifecycle.set_network(entry, body)
    return nothing()


@blueprint.delete("/sandboxes/<sandbox_id>")
async def kill(sandbox_id: str) -> Response:
    """Delete it: once this is answered, nobody finds it and its connections are gone."""
    wired = services()
    entry, _ = await wired.entry(sandbox_id)
    wired.logs.keep_soon(entry.sandbox_id, entry.sandbox)
    await wired.lifecycle.kill(entry)
    return nothing()


def _handle(entry: Entry, status: int) -> Response:
    wired = services()
    now = wired.roster.get(entry.sandbox_id) or entry
    return json_response(view.handle(now, wired.settings.domain), status)


async def _check_cold_boot(memory: bool | None, run: Run) -> None:
    if memory is False and run is not Run.RUNNING:
        await services().abilities.require_file_pauses("memory: false")
