"""``/templates/tags``: further names for a template's build."""

from __future__ import annotations

from quart import Blueprint, Response

from appliance.manager import tags
from appliance.manager.api.answers import json_response, nothing
from appliance.manager.bodies import AssignTags, RemoveTags, read
from appliance.manager.services import caller, services
from appliance.manager.templates import build_id

blueprint = Blueprint("tags", __name__)


@blueprint.post("/templates/tags")
async def assign() -> Response:
    """Make tags name what ``target`` names."""
    wired, body = services(), await read(AssignTags)
    wanted = tags.check(body.tags)
    found = wired.templates.find(caller(), body.target, field="target")
    await wired.tags.assign(found, wanted, wired.now())
    return json_response({"tags": wanted, "buildID": build_id(found)}, 201)


@blueprint.delete("/templates/tags")
async def remove() -> Response:
    """Take tags away; ``default`` stays."""
    wired, body = services(), await read(RemoveTags)
    wanted = tags.check(body.tags)
    await wired.tags.remove(wired.templates.find(caller(), body.name, field="name"), wanted)
    return nothing()
