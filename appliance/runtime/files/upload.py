"""``POST /files``: one file as octet-stream, or several as multipart; streamed to disk, never held."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping

from appliance.runtime import auth
from appliance.runtime.context import Context
from appliance.runtime.files.body import body_chunks, is_plain
from appliance.runtime.files.metadata import metadata_of
from appliance.runtime.files.multipart import MultipartParser, PartEnd, PartStart, boundary_of
from appliance.runtime.files.target import Target
from appliance.runtime.http import HttpError, Request, respond_json
from appliance.runtime.users import User


async def serve_upload(request: Request, context: Context) -> None:
    """Answer 200 with the list of written files. Raises ``HttpError`` 400, 401, 403, 507."""
    auth.check_files(request, context.state, "write")
    user = context.rest_user(request.query.get("username"))
    upload = _Upload(request, context, user, metadata_of(request.scope["headers"]))
    chunks = body_chunks(request)
    size = _announced(request)
    try:
        if request.content_type == "application/octet-stream":
            await upload.octets(chunks, size)
        elif request.content_type.startswith("multipart/"):
            await upload.parts(chunks, boundary_of(request.headers["content-type"]), size)
        else:
            expected = "multipart/form-data or application/octet-stream"
            raise HttpError(400, f"Content-Type: expected {expected}, got {request.content_type!r}")
    finally:
        upload.close()
    await respond_json(request.send, 200, upload.written)


def _announced(request: Request) -> int:
    """``Content-Length`` of a plain body, else 0: unknown."""
    length = request.headers.get("content-length", "")
    return int(length) if is_plain(request) and length.isdigit() else 0


class _Upload:
    """One request's files."""

    def __init__(self, request: Request, context: Context, user: User, metadata: Mapping[str, str]) -> None:
        self._context = context
        self._user = user
        self._path = request.query.get("path") or None
        self._intake = request.intake if is_plain(request) else lambda: None
        self._metadata = metadata
        self._target: Target | None = None
        self._seen: set[str] = set()
        self.written: list[dict[str, object]] = []

    async def octets(self, chunks: AsyncIterator[bytes], size: int) -> None:
        """The body is the file."""
        if self._path is None:
            raise HttpError(400, "path: required for an application/octet-stream upload")
        self._open(self._path, size)
        async for chunk in chunks:
            await self._current.write(chunk)
            if (intake := self._intake()) is not None:
                await self._current.fill(intake)
        await self._complete()

    async def parts(self, chunks: AsyncIterator[bytes], boundary: bytes, size: int) -> None:
        """Each part named ``file`` is a file; other parts are skipped."""
        parser = MultipartParser(boundary)
        async for chunk in chunks:
            await self._feed(parser, chunk, size)
            while self._target is not None and parser.in_file and (intake := self._intake()) is not None:
                await self._target.fill(intake, parser.scan)
                await self._feed(parser, intake.leftover, size)
        parser.close()

    async def _feed(self, parser: MultipartParser, data: bytes, size: int) -> None:
        for event in parser.feed(data):
            if isinstance(event, PartStart):
                self._start_part(event, size)
            elif isinstance(event, PartEnd):
                await self._complete()
            elif self._target is not None:
                await self._target.write(event)

    def _start_part(self, part: PartStart, size: int) -> None:
        if part.name != "file":
            return
        path = self._path or part.filename
        if not path:
            raise HttpError(400, "file: expected a filename in the part, or a path in the query")
        self._open(path, size)

    def _open(self, path: str, size: int) -> None:
        resolved = self._context.rest_path(path, self._user)
        if resolved in self._seen:
            raise HttpError(400, f"path '{resolved}': given twice in one upload request")
        self._seen.add(resolved)
        self._target = Target.open(resolved, self._user, self._metadata, size)

    @property
    def _current(self) -> Target:
        assert self._target is not None
        return self._target

    async def _complete(self) -> None:
        target = self._target
        if target is None:
            return
        await target.finish()
        target.abandon()
        self._target = None
        entry: dict[str, object] = {"name": os.path.basename(target.path), "path": target.path, "type": "file"}
        if self._metadata:
            entry["metadata"] = dict(self._metadata)
        self.written.append(entry)

    def close(self) -> None:
        """Close a file that was not completed."""
        if self._target is not None:
            with contextlib.suppress(OSError):
                self._target.abandon()
            self._target = None
