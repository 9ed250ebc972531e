"""``POST /init``: the control plane makes the sandbox somebody's.

Open until a token is set. From then on a caller must know the token: in ``X-Access-Token``, or as the ``accessToken``
of the body (so that repeating an init is harmless). An init older than the newest one seen is answered 204 and
ignored: after a resume calls can arrive out of order. What this runtime cannot do is refused by name, not ignored.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from appliance.runtime import markers, seal, trust
from appliance.runtime.auth import UNAUTHORIZED
from appliance.runtime.http import HttpError, Request, respond
from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.state import RuntimeState, SupervisorChannel


class _Body(msgspec.Struct, rename="camel"):
    access_token: str | None = None
    env_vars: dict[str, str] | None = None
    default_user: str | None = None
    default_workdir: str | None = None
    timestamp: str | None = None
    lifecycle_id: str | None = msgspec.field(name="lifecycleID", default=None)
    ca_bundle: str | None = None
    hyperloop_ip: str | None = msgspec.field(name="hyperloopIP", default=None)
    volume_mounts: list[Any] | None = None


_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)")


async def serve_init(
    request: Request, state: RuntimeState, settings: RuntimeSettings, channel: SupervisorChannel | None
) -> None:
    """Answer one ``/init``. Raises ``HttpError`` 400, 401, 413."""
    body = _parse(await request.body(settings.max_json_body))
    if (state.access_token is not None or state.sealed is not None) and not (
        state.token_matches(request.headers.get("x-access-token")) or state.token_matches(body.access_token)
    ):
        raise HttpError(401, UNAUTHORIZED)
    if state.sealed is not None and body.access_token is None:
        body.access_token = request.headers.get("x-access-token")  # it was just proven
    _refuse_unsupported(body, settings)
    instant = None if body.timestamp is None else nanoseconds(body.timestamp)
    if instant is None or state.last_init is None or instant > state.last_init:
        _trust(body, state, settings)
        _apply(body, instant, state)
        if body.access_token is not None:
            seal.write(settings.seal_file, body.access_token)
        state.sealed = None
        if settings.marker_root is not None:
            markers.write(settings.marker_root, state.env)
        if channel is not None:
            channel.save_state(state.snapshot())
    headers = ((b"x-envd-version", settings.envd_version.encode()), (b"cache-control", b"no-store"))
    await respond(request.send, 204, headers=headers)


def _parse(data: bytes) -> _Body:
    if not data.strip():
        return _Body()
    try:
        body = msgspec.json.decode(data, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"the request body is not what /init takes: {error}") from None
    if body.access_token == "":
        raise HttpError(400, "accessToken: expected a token that is not empty")
    for name, value in (body.env_vars or {}).items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise HttpError(400, f"envVars: {name!r} is not a usable variable")
    return body


def _refuse_unsupported(body: _Body, settings: RuntimeSettings) -> None:
    if body.ca_bundle and settings.trust_root is None:
        raise HttpError(400, "caBundle: not supported by this runtime")
    if body.hyperloop_ip:
        raise HttpError(400, "hyperloopIP: not supported by this runtime")
    if body.volume_mounts:
        raise HttpError(400, "volumeMounts: not supported by this runtime")


def _trust(body: _Body, state: RuntimeState, settings: RuntimeSettings) -> None:
    if body.ca_bundle is None or settings.trust_root is None:
        return
    try:
        state.trust_env = trust.install(settings.trust_root, body.ca_bundle)
    except ValueError as error:
        raise HttpError(400, f"caBundle: {error}") from None
    except OSError as error:
        raise HttpError(500, f"caBundle: the trust store cannot be written: {error}") from None


def _apply(body: _Body, instant: int | None, state: RuntimeState) -> None:
    if instant is not None:
        state.last_init = instant
    if body.access_token is not None:
        state.access_token = body.access_token
    if body.env_vars is not None:
        state.user_env = dict(body.env_vars)
    if body.default_user:
        state.default_user = body.default_user
    if body.default_workdir:
        state.default_workdir = body.default_workdir
    if body.lifecycle_id is not None:
        state.lifecycle_id = body.lifecycle_id


def nanoseconds(text: str) -> int:
    """An RFC 3339 instant as nanoseconds since 1970. Raises ``HttpError`` 400."""
    match = _RFC3339.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        whole, fraction, zone = match.groups()
        moment = datetime.fromisoformat(whole.upper() + ("+00:00" if zone in "Zz" else zone))
        seconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    except ValueError:
        raise HttpError(400, f"timestamp: expected an RFC 3339 instant, got {text!r}") from None
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))
