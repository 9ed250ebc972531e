"""``/templates/tags`` and ``/templates/{id}/tags``: further names for a template's build."""

from __future__ import annotations

from quart import Blueprint, Response, request

from appliance.manager import tags, template_tags
from appliance.manager.api.answers import bounded, json_response, nothing
from appliance.manager.bodies import AssignTags, RemoveTags, read
from appliance.manager.errors import Fault, invalid
from appliance.manager.services import caller, services
from appliance.manager.template_tags import Tagged
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


@blueprint.get("/templates/<path:template_id>/tags")
async def listed(template_id: str) -> Response:
    """The tags of one template; ``default`` is always among them."""
    templates = services().templates
    return json_response(templates.render_tags(templates.find(caller(), template_id)))


@blueprint.get("/templates/<path:template_id>/tags/count")
async def count(template_id: str) -> Response:
    """How many there are."""
    return json_response(template_tags.count(_tagged(template_id)))


@blueprint.get("/templates/<path:template_id>/tags/exists")
async def exists(template_id: str) -> Response:
    """Whether ``tag`` is one of them."""
    return json_response(template_tags.exists(_tagged(template_id), request.args.get("tag", "")))


@blueprint.get("/templates/<path:template_id>/tags/groups")
async def groups(template_id: str) -> Response:
    """A page of them, each with its assignments."""
    page = template_tags.groups(
        _tagged(template_id),
        search=request.args.get("search", ""),
        sort=request.args.get("sort", "latest_desc"),
        cursor=request.args.get("tagsCursor"),
        limit=bounded("tagsLimit", 25, 100),
        assignments=bounded("assignmentLimit", 6, 100),
    )
    return json_response(page)


@blueprint.get("/templates/<path:template_id>/tags/<tag>/assignments")
async def assignments(template_id: str, tag: str) -> Response:
    """The assignments of one of them: the present one."""
    found = _tagged(template_id)
    bounded("limit", 50, 100)
    if "cursor" in request.args:
        raise invalid("cursor", "expected none: the first page is the last")
    if tag.lower() not in found.tags:
        raise Fault(404, f"tag '{tag}' does not exist for template '{template_id}'")
    return json_response({"data": [template_tags.assignment(found, tag.lower())], "nextCursor": None})


def _tagged(template_id: str) -> Tagged:
    templates = services().templates
    return templates.tagged(templates.find(caller(), template_id))
