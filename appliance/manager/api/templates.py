"""``/templates``: SandboxSets, to read. Ids may contain slashes (``team/name:tag``), encoded or not."""

from __future__ import annotations

from quart import Blueprint, Response, request

from appliance.manager.api.answers import json_response
from appliance.manager.errors import Fault, invalid
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
    """One template with its build."""
    templates = services().templates
    return json_response(templates.render_with_builds(templates.find(caller(), template_id)))


@blueprint.get("/templates/aliases/<path:alias>")
async def alias(alias: str) -> Response:
    """Whether a name is a template's."""
    found = services().templates.find(caller(), alias)
    return json_response({"templateID": found.name, "public": True})


@blueprint.get("/templates/<path:template_id>/tags")
async def tags(template_id: str) -> Response:
    """The tags of one template: always just ``default``."""
    templates = services().templates
    return json_response(templates.render_tags(templates.find(caller(), template_id)))


@blueprint.delete("/templates/<path:template_id>")
async def delete(template_id: str) -> Response:
    """404 for what is no template (SDKs delete snapshots so); a SandboxSet is deleted in the cluster."""
    found = services().templates.find(caller(), template_id)
    raise Fault(403, f"template '{found.name}' is a SandboxSet: delete it with kubectl delete sandboxset {found.name}")


def _check_team() -> None:
    team = request.args.get("teamID")
    if team is not None and team != caller().team:
        raise invalid("teamID", f"expected the team of the API key, {caller().team!r}")


def _offset() -> int:
    text = request.args.get("nextToken")
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid("nextToken", "expected a token from the X-Next-Token header of the page before")
    return int(text)
