"""``POST /files/compose``: join uploaded parts into one file and remove them.

The result is written beside the destination and renamed over it, so a failure leaves the old file and all parts as
they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import stat

import msgspec

from appliance.runtime.context import Context
from appliance.runtime.filesystem.directories import give, make_parents
from appliance.runtime.filesystem.failures import rest_error
from appliance.runtime.http import HttpError, Request, respond_json
from appliance.runtime.users import User

_PIECE = 16 * 1024 * 1024


class _Body(msgspec.Struct):
    source_paths: list[str]
    destination: str
    username: str | None = None


async def serve_compose(request: Request, context: Context) -> None:
    """Answer 200 with the new file. Raises ``HttpError`` 400, 401, 404, 507."""
    try:
        body = msgspec.json.decode(await request.body(context.settings.max_json_body), type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"the request body is not what /files/compose takes: {error}") from None
    user = context.rest_user(body.username or request.query.get("username"))
    sources = [context.rest_path(path, user) for path in body.source_paths]
    destination = context.rest_path(body.destination, user)
    if not sources or not body.destination:
        raise HttpError(400, "source_paths and destination: expected at least one source and a destination")
    if len(set(sources)) != len(sources):
        raise HttpError(400, "source_paths: a path is named twice")
    if destination in sources:
        raise HttpError(400, "destination: it is one of source_paths")
    await asyncio.to_thread(_compose, sources, destination, user)
    entry = {"name": os.path.basename(destination), "path": destination, "type": "file"}
    await respond_json(request.send, 200, entry)


def _compose(sources: list[str], destination: str, user: User) -> None:
    for source in sources:
        _check_source(source)
    if os.path.isdir(destination):
        raise HttpError(400, f"path '{destination}' is a directory")
    temporary = f"{destination}.{secrets.token_hex(6)}.part"
    try:
        make_parents(destination, user)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            give(descriptor, user)
            for source in sources:
                _append(descriptor, source)
        finally:
            os.close(descriptor)
        os.rename(temporary, destination)
    except OSError as error:
        raise rest_error(error, destination) from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    for source in sources:
        with contextlib.suppress(OSError):
            os.unlink(source)


def _check_source(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise rest_error(error, path) from None
    if not stat.S_ISREG(mode):
        raise HttpError(400, f"path '{path}' is not a regular file")


def _append(descriptor: int, source: str) -> None:
    origin = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while os.sendfile(descriptor, origin, None, _PIECE):
            pass
    finally:
        os.close(origin)
