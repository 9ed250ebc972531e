"""``/teams`` and ``/api-keys``: who may use the API. A team is a namespace."""

from __future__ import annotations

from typing import Any

import msgspec
from quart import Blueprint, Response, request

from appliance.manager.api.answers import json_response, nothing
from appliance.manager.bodies import NewApiKey, UpdateApiKey, UpdateTeam, read
from appliance.manager.errors import Fault, invalid
from appliance.manager.keys import compat
from appliance.manager.keys.model import ApiKey
from appliance.manager.services import caller, services
from appliance.manager.system import namespace_exists

blueprint = Blueprint("keys", __name__)
PREFIX = "e2b_"


@blueprint.get("/teams")
async def teams() -> Response:
    """The caller's team, with the key it came with: the CLI stores that one."""
    team = caller().team
    return json_response([{"teamID": team, "name": team, "apiKey": compat.encode(_presented()), "isDefault": True}])


@blueprint.patch("/teams/<team_id>")
async def update_team(team_id: str) -> Response:
    """Block a team (a reason, or null), ban it, or open it again: admin keys only. An addition of ours."""
    wired, key = services(), caller()
    if not key.admin:
        raise Fault(403, "only an admin key may block or ban a team")
    body = await read(UpdateTeam)
    if not await namespace_exists(wired.cluster, team_id):
        raise Fault(404, f"team {team_id[:80]!r} not found")
    before = wired.keys.standing(team_id)
    given = {name: getattr(body, name) for name in body.model_fields_set}
    new = msgspec.structs.replace(before, **given)
    await wired.keys.set_standing(team_id, new)
    return json_response({"teamID": team_id, "blocked": new.blocked, "banned": new.banned})


@blueprint.get("/api-keys")
async def list_keys() -> Response:
    """The keys of the team (of all teams for an admin), masked."""
    return json_response([_masked(key) for key in services().keys.visible(caller())])


@blueprint.post("/api-keys")
async def create_key() -> Response:
    """Make a key; its text is in this answer and nowhere else."""
    wired, key = services(), caller()
    body = await read(NewApiKey)
    team = body.team_name or key.team
    if team != key.team and not key.admin:
        raise Fault(403, "only an admin key may make keys of another team")
    if not await namespace_exists(wired.cluster, team):
        raise invalid("teamName", f"expected an existing namespace, got {team!r}")
    made, text = await wired.keys.create(body.name, team)
    return json_response(_masked(made) | {"key": text}, 201)


@blueprint.patch("/api-keys/<key_id>")
async def rename_key(key_id: str) -> Response:
    """Give a key of one's team another name."""
    body = await read(UpdateApiKey)
    return json_response(_masked(await services().keys.rename(_own(key_id), body.name)))


@blueprint.delete("/api-keys/<key_id>")
async def delete_key(key_id: str) -> Response:
    """Delete a key of one's team; admin keys by admins only, and never the last one."""
    keys, found = services().keys, _own(key_id)
    if found.admin and keys.admins() == 1:
        raise Fault(403, "the last admin key cannot be deleted")
    await keys.delete(key_id)
    return nothing()


@blueprint.get("/api-keys/compatible")
async def compatible() -> Response:
    """The caller's key in the shape that old E2B clients insist on."""
    return json_response({"key": compat.encode(_presented())})


def _own(key_id: str) -> ApiKey:
    """A key that the caller may change. Raises Fault 404, and 403 for an admin key in other hands."""
    key = caller()
    found = next((one for one in services().keys.visible(key) if one.id == key_id), None)
    if found is None:
        raise Fault(404, f"API key {key_id[:80]!r} not found")
    if found.admin and not key.admin:
        raise Fault(403, "only an admin key may change or delete an admin key")
    return found


def _presented() -> str:
    headers = request.headers
    given = headers.get("X-API-Key") or headers.get("X-Admin-Token") or headers["Authorization"].split()[-1]
    return given.strip()


def _masked(key: ApiKey) -> dict[str, Any]:
    mask = {"prefix": PREFIX, "valueLength": 40, "maskedValuePrefix": "", "maskedValueSuffix": key.hint}
    return {
        "id": key.id,
        "name": key.name,
        "team": key.team,
        "admin": key.admin,
        "mask": mask,
        "createdAt": key.created_at,
        "createdBy": None,
        "lastUsed": None,
    }
