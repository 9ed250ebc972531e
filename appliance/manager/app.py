"""The Quart application: authentication, JSON errors, and the blueprints, each under ``/`` and ``/kruise/api``.

Every answer that is not 2xx is JSON, also those the framework makes itself (unknown path, wrong method, body too
large). What is not ours to explain is logged with its traceback and answered 500 without details.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from http import HTTPStatus

from quart import Quart, Response, g, request
from werkzeug.exceptions import HTTPException

from appliance.kube.errors import KubeError
from appliance.manager import cors
from appliance.manager.api import ANONYMOUS, BLUEPRINTS
from appliance.manager.api.answers import json_response
from appliance.manager.authentication import authenticate
from appliance.manager.errors import Fault, from_kube
from appliance.manager.keys import standing
from appliance.manager.services import EXTENSION, Services, services

PREFIX = "/kruise/api"
logger = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def create_app(wired: Services) -> Quart:
    """The application over ``wired``."""
    app = Quart("appliance")
    app.config["MAX_CONTENT_LENGTH"] = wired.settings.gateway.max_control_body
    app.extensions[EXTENSION] = wired
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
        app.register_blueprint(blueprint, name=f"kruise-{blueprint.name}", url_prefix=PREFIX)
    app.before_request(_begin)
    app.after_request(_finish)
    app.register_error_handler(Fault, _on_fault)
    app.register_error_handler(KubeError, _on_kube)
    app.register_error_handler(HTTPException, _on_http)
    app.register_error_handler(Exception, _on_bug)
    return app


async def _begin() -> Response | None:
    """Who is it? Unknown paths answer 404 to anybody, and browsers' questions are answered: both tell nothing."""
    g.started = time.perf_counter()
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    if request.method == "OPTIONS":
        return cors.preflight()
    rule = request.url_rule
    if rule is None or rule.endpoint.rpartition(".")[2] in ANONYMOUS:
        return None
    keys = services().keys
    g.key = authenticate(request.headers, keys)
    if not g.key.admin:
        standing.check(keys.standing(g.key.team), request.method)
    return None


async def _finish(response: Response) -> Response:
    rule = request.url_rule
    route = rule.rule.removeprefix(PREFIX) if rule is not None else "unknown"
    seconds = time.perf_counter() - g.get("started", time.perf_counter())
    services().observed.answered(request.method if rule else "ANY", route, response.status_code, seconds)
    response.headers["X-Request-ID"] = g.request_id
    if "Origin" in request.headers:
        cors.allow(response)
    return response


async def _on_fault(fault: Fault) -> Response:
    if fault.status >= 500 and fault.status != HTTPStatus.NOT_IMPLEMENTED:
        logger.warning("%s: %d %s", _what(), fault.status, fault.message)
    return json_response(fault.body(), fault.status, fault.headers)


async def _on_kube(error: KubeError) -> Response:
    logger.warning("%s: the cluster answered: %s", _what(), error)
    fault = from_kube(error)
    return json_response(fault.body(), fault.status, fault.headers)


async def _on_http(error: HTTPException) -> Response:
    status = error.code or 500
    message = {
        404: f"no such endpoint: {request.method} {request.path}",
        405: f"{request.method} is not allowed on {request.path}",
        413: f"the request body is larger than {services().settings.gateway.max_control_body} bytes",
    }.get(status, HTTPStatus(status).phrase)
    headers = {name: value for name, value in error.get_headers() if name.lower() == "allow"}
    return json_response({"code": status, "message": message}, status, headers)


async def _on_bug(error: Exception) -> Response:
    logger.error("%s failed", _what(), exc_info=error)
    return json_response({"code": 500, "message": "internal server error"}, 500)


def _what() -> str:
    """The request in a log line; its id is also in the client's answer."""
    return f"{request.method} {request.path} [{g.get('request_id', '-')}]"
