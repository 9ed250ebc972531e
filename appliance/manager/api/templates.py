"""``/templates``: SandboxSets, to read and to delete. Ids may contain slashes (``team/name:tag``), encoded or not."""

from __future__ import annotations

from quart import Blueprint, Response, request

from appliance.manager.api.answers import json_response, nothing
from appliance.manager.bodies import UpdateTemplate, read
from appliance.manager.errors import Fault, invalid, template_not_found, unsupported
from appliance.manager.listing import parse_limit
from appliance.manager.services import caller, services

blueprint = Blueprint("templates", __name__)


@blueprint.get("/templates")
async def list_v1() -> Response:
    """All templates of the key's team."""
    _check_team()
    templates = services().templates
    return json_response([templates.render(one) for one in templates.visible(caller())])


@blueprint.get("/v2/templates")
async def list_v2() -> Response:
    """The same in pages; the token is the number of templates before the page."""
    _check_team()
    templates = services().templates
    limit, start = parse_limit(request.args.get("limit")), _offset()
    found = templates.visible(caller())
    headers = {"X-Next-Token": str(start + limit)} if len(found) > start + limit else {}
    return json_response([templates.render(one) for one in found[start : start + limit]], headers=headers)


@blueprint.get("/templates/<path:template_id>")
async def detail(template_id: str) -> Response:
    """One template with its builds in pages: it has one, so the first page is the last."""
    templates = services().templates
    parse_limit(request.args.get("limit"))
    return json_response(templates.render_with_builds(templates.find(caller(), template_id), _offset()))


@blueprint.get("/templates/aliases/<path:alias>")
async def alias(alias: str) -> Response:
    """Whether a name is a template's."""
    found = services().templates.find(caller(), alias)
    return json_response({"templateID": found.name, "public": False})


@blueprint.delete("/templates/<path:template_id>")
async def delete(template_id: str) -> Response:
    """Delete it; 400 while sandboxes of it exist. 404 for what is no template: SDKs delete snapshots so."""
    wired = services()
    try:
        found = wired.templates.find(caller(), template_id)
    except Fault as fault:
        raise template_not_found(template_id) if fault.status == 403 else fault from None
    await wired.shelf.delete(found)
    return nothing()


@blueprint.patch("/v2/templates/<path:template_id>")
async def update_v2(template_id: str) -> Response:
    """``public`` can only be what it is: false."""
    return json_response({"names": await _update(template_id)})


@blueprint.patch("/templates/<path:template_id>")
async def update_v1(template_id: str) -> Response:
    """Deprecated: the same without an answer."""
    await _update(template_id)
    return json_response({})


@blueprint.get("/default-templates")
async def defaults() -> Response:
    """The templates that clients use when they name none."""
    templates = services().templates
    rendered = map(templates.render, templates.visible(caller()))
    return json_response([one for one in rendered if one["isDefault"]])


async def _update(template_id: str) -> list[str]:
    body, templates = await read(UpdateTemplate), services().templates
    names: list[str] = templates.render(templates.find(caller(), template_id))["names"]
    if body.public:
        raise unsupported(
            "public: true", "a template belongs to one team; apply its SandboxSet in the other's namespace"
        )
    return names


def _check_team() -> None:
    team = request.args.get("teamID")
    if team is not None and team != caller().team:
        raise invalid("teamID", f"expected the team of the API key, {caller().team!r}")


def _offset() -> int:
    """How many items were before the page that ``nextToken`` asks for. Raises Fault 400."""
    text = request.args.get("nextToken")
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid("nextToken", "expected a token from the X-Next-Token header of the page before")
    return int(text)
