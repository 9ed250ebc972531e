"""Every answer that the gateway gives by itself: status, text and form, in one place.

Texts, statuses and phrases are those of the E2B proxy (contract §1.20), because SDKs and tests compare them. Programs
get JSON with an integer ``code`` and a ``message``, browsers a page; malformed addresses are plain text, as there.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from appliance.gateway.routes import Refusal


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer of ours."""

    status: int
    message: str
    title: str = ""
    """Heading of the page for browsers; empty: the status's own name."""
    phrase: str = ""
    """Sentence of the page; empty: the message."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the JSON body."""
    plain: bool = False
    retry_after: int | None = None
    """Seconds, sent as ``Retry-After``."""


def not_found(sandbox_id: str) -> Problem:
    """Unknown, dead, or paused without auto-resume."""
    phrase = f"The sandbox {sandbox_id} wasn't found."
    fields = {"sandboxId": sandbox_id}
    return Problem(502, "The sandbox was not found", "Sandbox Not Found", phrase, fields)


def port_closed(sandbox_id: str, port: int) -> Problem:
    """The sandbox runs, nothing listens."""
    message = "The sandbox is running but port is not open"
    phrase = f"The sandbox {sandbox_id} is running but there's no service running on port {port}."
    return Problem(502, message, "Closed Port Error", phrase, {"sandboxId": sandbox_id, "port": port})


def bad_answer(sandbox_id: str, port: int) -> Problem:
    """Something listens, but what it says is not HTTP, or it hung up without a word."""
    fields = {"sandboxId": sandbox_id, "port": port}
    return Problem(502, "The service in the sandbox closed the connection or did not answer in HTTP", fields=fields)


def no_tls(sandbox_id: str, port: int) -> Problem:
    """A port of ``httpsPorts`` whose service refuses the handshake, as one that speaks plain HTTP does."""
    fields = {"sandboxId": sandbox_id, "port": port}
    return Problem(502, "The service in the sandbox does not speak TLS on this port of httpsPorts", fields=fields)


def too_slow(sandbox_id: str, port: int) -> Problem:
    """No byte in either direction for the idle time-out."""
    fields = {"sandboxId": sandbox_id, "port": port}
    return Problem(504, "The service in the sandbox did not answer in time", fields=fields)


def reserved(path: str) -> Problem:
    """Endpoints of the runtime that only the control plane may call."""
    message = "This endpoint is reserved for the E2B control plane and is not reachable through the sandbox URL"
    return Problem(404, message, fields={"path": path})


def traffic_token(sandbox_id: str, *, missing: bool) -> Problem:
    """A private sandbox, asked without its token or with a wrong one."""
    head = "Sandbox is secured with traffic access token. "
    fields = {"sandboxId": sandbox_id}
    if missing:
        message = head + "Token header 'e2b-traffic-access-token' is missing"
        return Problem(403, message, "Missing Traffic Access Token", fields=fields)
    message = head + "Provided token in header 'e2b-traffic-access-token' is invalid"
    return Problem(403, message, "Invalid Traffic Access Token", fields=fields)


def refused(refusal: Refusal, sandbox_id: str) -> Problem:
    """The answer to a sandbox that has no route."""
    fields = {"sandboxId": sandbox_id}
    if refusal is Refusal.TRANSITIONING:
        message = "The sandbox is still transitioning. Try again in a moment."
        return Problem(409, message, "Sandbox Is Transitioning", fields=fields, retry_after=1)
    if refusal is Refusal.RESUME_DENIED:
        message = "This sandbox can't be resumed with the credentials provided. Check your access token and try again."
        return Problem(403, message, "Resume Denied", fields=fields)
    if refusal is Refusal.TOO_MANY:
        message = "Too many connections to this sandbox. Try again in a moment."
        return Problem(429, message, fields=fields, retry_after=1)
    return not_found(sandbox_id)


CONTROL_DOWN = Problem(503, "The control API is not answering; it may be starting", retry_after=1)
INTERNAL = Problem(500, "The gateway failed to route this request; its log says why")
OVERLOADED = Problem(503, "Too many connections; try again later", retry_after=1)
HEAD_TOO_LARGE = Problem(431, "The request line and headers are too large")
BODY_TOO_LARGE = Problem(413, "The request body is too large for the control API")
HEAD_TOO_SLOW = Problem(408, "The request head did not arrive in time")
BODY_MALFORMED = Problem(400, "The request body's chunked framing is malformed")
CONTROL_BAD_ANSWER = Problem(502, "The control API closed the connection without an answer")
CONTROL_TOO_SLOW = Problem(504, "The control API did not answer in time")


def render(problem: Problem, *, user_agent: bytes = b"", head_only: bool = False, close: bool = False) -> bytes:
    """The whole HTTP/1.1 answer as bytes."""
    kind, body = _body(problem, browser=b"Mozilla/" in user_agent)
    lines = [
        f"HTTP/1.1 {problem.status} {_reason(problem.status)}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
    ]
    if problem.retry_after is not None:
        lines.append(f"Retry-After: {problem.retry_after}")
    if close:
        lines.append("Connection: close")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if head_only else head + body


def _body(problem: Problem, *, browser: bool) -> tuple[str, bytes]:
    if problem.plain:
        return "text/plain; charset=utf-8", problem.message.encode()
    if browser:
        return "text/html; charset=utf-8", _page(problem).encode()
    body = {**problem.fields, "message": problem.message, "code": problem.status}
    return "application/json; charset=utf-8", json.dumps(body, separators=(",", ":")).encode()


def _page(problem: Problem) -> str:
    title = html.escape(problem.title or _reason(problem.status), quote=False)
    phrase = html.escape(problem.phrase or problem.message, quote=False)
    names = ", ".join(f"{key}: {value}" for key, value in problem.fields.items())
    style = "body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:15vh auto;padding:0 1em}small{color:#666}"
    return (
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{style}</style></head>'
        f"<body><h1>{title}</h1><p>{phrase}</p><small>{html.escape(names, quote=False)}</small></body></html>"
    )


def _reason(status: int) -> str:
    return HTTPStatus(status).phrase
