"""Features of E2B that are not here yet: 501 that names the feature, for the owner of a valid key."""

from __future__ import annotations

from quart import Blueprint, Response

from appliance.manager.errors import not_implemented
from appliance.manager.services import services

blueprint = Blueprint("unsupported", __name__)

_FEATURES = (
    ("forks", "/sandboxes/<sandbox_id>/fork", ("POST",)),
    ("snapshots", "/sandboxes/<sandbox_id>/snapshots", ("POST",)),
    ("snapshots", "/snapshots", ("GET",)),
    ("template builds", "/v3/templates", ("POST",)),
    ("template builds", "/v2/templates", ("POST",)),
    ("template builds", "/templates", ("POST",)),
    ("template builds", "/templates/<path:template_id>", ("POST",)),
    ("template builds", "/templates/<path:template_id>/files/<digest>", ("GET",)),
    ("template builds", "/v2/templates/<path:template_id>/builds/<build_id>", ("POST",)),
    ("template builds", "/templates/<path:template_id>/builds/<build_id>", ("POST",)),
    ("template builds", "/templates/<path:template_id>/builds/<build_id>/status", ("GET",)),
    ("template builds", "/templates/<path:template_id>/builds/<build_id>/logs", ("GET",)),
    ("volumes", "/volumes", ("GET", "POST")),
    ("volumes", "/volumes/<volume_id>", ("GET", "DELETE")),
    ("secrets", "/secrets", ("GET", "POST")),
    ("secrets", "/secrets/<secret_id>", ("GET", "POST", "DELETE")),
    ("volumes", "/volumecontent/<path:rest>", ("GET", "POST", "PUT", "PATCH", "DELETE")),
    ("access tokens", "/access-tokens", ("GET", "POST")),
    ("access tokens", "/access-tokens/<token_id>", ("DELETE",)),
    ("node endpoints", "/nodes", ("GET",)),
    ("node endpoints", "/nodes/<path:rest>", ("GET", "POST")),
    ("admin endpoints", "/admin/<path:rest>", ("GET", "POST", "PUT", "PATCH", "DELETE")),
)


def _refusal(feature: str, endpoint: str, path: str, methods: tuple[str, ...]) -> None:
    async def refuse(**arguments: str) -> Response:
        # A sandbox that is not there stays 404, whatever was to be done with it.
        if "sandbox_id" in arguments:
            await services().entry(arguments["sandbox_id"])
        raise not_implemented(feature)

    refuse.__doc__ = f"501: {feature}."
    blueprint.add_url_rule(path, endpoint, refuse, methods=list(methods))


for _number, (_feature, _path, _methods) in enumerate(_FEATURES):
    _refusal(_feature, f"unsupported-{_number}", _path, _methods)
