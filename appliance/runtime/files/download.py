"""``GET /files``: a file, a range of it, or 304; flat in memory for any size.

Pages that the kernel has cached are read in the loop (``RWF_NOWAIT``: it never blocks); cold ones by a worker thread.
Large files are sent by ``sendfile``, after a thread has fetched what is cold.
Compression is avoided unless the client asks for nothing else, see ``conditions.encoding``.
"""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import re
import stat
import zlib
from typing import Final
from urllib.parse import quote

from appliance.runtime import auth
from appliance.runtime.context import Context
from appliance.runtime.files import conditions
from appliance.runtime.filesystem.failures import rest_error
from appliance.runtime.http import CORS, Header, HttpError, Request, respond, respond_json

_PIECE: Final = 256 * 1024
_SAMPLE: Final = 512
"""Bytes that tell text from other content."""
_DIRECT: Final = 64 * 1024
"""Bytes from which on sendfile is worth its system calls."""
_STRIDE: Final = 4 * 1024 * 1024
"""Bytes given to sendfile at a time."""
_TYPES: Final = mimetypes.MimeTypes()  # the built-in table only: the image's files must not decide
_BINARY: Final = re.compile(rb"[^\t\n\r\f\x1b\x20-\xff]")
_TOKEN: Final = frozenset("!#$&+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


async def serve_download(request: Request, context: Context) -> None:
    """Answer with the file. Raises ``HttpError`` 400, 401, 403, 404, 406."""
    auth.check_files(request, context.state, "read")
    user = context.rest_user(request.query.get("username"))
    path = context.rest_path(request.query.get("path", ""), user)
    descriptor, status = _open(path)
    try:
        await _answer(request, path, descriptor, status)
    finally:
        os.close(descriptor)


def _open(path: str) -> tuple[int, os.stat_result]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise HttpError(400, f"path '{path}' is not a regular file") from None
        raise rest_error(error, path) from None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status
    os.close(descriptor)
    raise HttpError(400, f"path '{path}' is {'a directory' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}")


async def _answer(request: Request, path: str, descriptor: int, status: os.stat_result) -> None:
    headers = _headers(path, status.st_mtime)
    refused = conditions.precondition(request.headers, status.st_mtime)
    if refused is not None:
        await respond(request.send, refused, headers=headers)
        return
    encoding = conditions.encoding(request.headers.get("accept-encoding"), conditions.is_conditional(request.headers))
    if encoding is None:
        raise HttpError(406, "Accept-Encoding: neither identity nor gzip is acceptable; no other encoding is available")
    # A small file is read once, whole; the first bytes also tell what it is, and whether /proc has more than it says.
    first = await _read(descriptor, 0, max(status.st_size, _SAMPLE) if status.st_size < _DIRECT else _SAMPLE)
    headers.append((b"content-type", _content_type(path, first[:_SAMPLE])))
    if encoding == "gzip" and first:  # nothing is never compressed: clients know an empty file by its length 0
        await _send_gzip(request, descriptor, headers)
    elif status.st_size == 0 and first:
        await _send_unsized(request, descriptor, headers)  # a file of /proc or /sys
    else:
        await _send_sized(request, descriptor, headers, status, first)


def _headers(path: str, modified: float) -> list[Header]:
    return [
        *CORS,
        (b"content-disposition", _disposition(os.path.basename(path))),
        (b"last-modified", conditions.http_date(modified).encode()),
        (b"vary", b"Accept-Encoding"),
        (b"accept-ranges", b"bytes"),
    ]


def _disposition(name: str) -> bytes:
    if name and _TOKEN.issuperset(name):
        return b"inline; filename=" + name.encode()
    if name.isascii() and name.isprintable():
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'inline; filename="{escaped}"'.encode()
    return b"inline; filename*=utf-8''" + quote(name.encode("utf-8", "surrogateescape")).encode()


def _content_type(path: str, first: bytes) -> bytes:
    guessed = _TYPES.guess_type(path)[0]
    if guessed is None:
        guessed = "text/plain" if first and _looks_like_text(first) else "application/octet-stream"
    return (guessed + "; charset=utf-8" if guessed.startswith("text/") else guessed).encode()


def _looks_like_text(data: bytes) -> bool:
    if _BINARY.search(data):
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(data) - 4  # a character cut in two by the sample's end
    return True


async def _send_sized(
    request: Request, descriptor: int, headers: list[Header], status: os.stat_result, first: bytes
) -> None:
    """The file or a range of it; ``first``: what has been read from its beginning."""
    try:
        wanted = conditions.byte_range(request.headers, status.st_size, status.st_mtime)
    except conditions.Unsatisfiable:
        limits = (b"content-range", f"bytes */{status.st_size}".encode())
        body = {"code": 416, "message": f"the range is outside the file of {status.st_size} bytes"}
        await respond_json(request.send, 416, body, (limits,))
        return
    at, length = wanted or (0, status.st_size)
    if wanted is not None:
        headers.append((b"content-range", f"bytes {at}-{at + length - 1}/{status.st_size}".encode()))
    headers.append((b"content-length", str(length).encode()))
    await request.send({"type": "http.response.start", "status": 206 if wanted else 200, "headers": headers})
    rest = b""
    if at + length <= len(first):
        rest = first[at : at + length]
    elif request.method != "HEAD":
        await _send_part(request, descriptor, at, length)
    await request.send({"type": "http.response.body", "body": rest})


async def _send_part(request: Request, descriptor: int, at: int, length: int) -> None:
    """``length`` bytes from ``at``; a large part goes from the page cache to the socket without a copy of ours."""
    direct = length >= _DIRECT
    while length > 0:
        if direct:
            stride = min(length, _STRIDE)
            if not _cached(descriptor, at, stride):
                await asyncio.to_thread(_warm, descriptor, at, stride)
            try:
                sent = await request.sendfile(descriptor, at, stride)
            except asyncio.SendfileNotAvailableError:
                direct = False
                continue
        else:
            data = await _read(descriptor, at, min(_PIECE, length))
            sent = len(data)
            await request.send({"type": "http.response.body", "body": data, "more_body": True})
        if not sent:
            raise ConnectionAbortedError("the file became shorter while it was sent")
        at += sent
        length -= sent


def _ends(at: int, length: int) -> tuple[int, int]:
    return at, at + length - 1


def _cached(descriptor: int, at: int, length: int) -> bool:
    """Whether the first and the last byte are in memory; then so is what lies between, nearly always."""
    probe = bytearray(1)
    try:
        return all(os.preadv(descriptor, [probe], where, os.RWF_NOWAIT) for where in _ends(at, length))
    except OSError:
        return False  # cold, or a file system that cannot tell


def _warm(descriptor: int, at: int, length: int) -> None:
    """Have a part read from the disk, so that sendfile does not wait for it in the loop. For a worker thread."""
    os.posix_fadvise(descriptor, at, length, os.POSIX_FADV_WILLNEED)
    for where in _ends(at, length):
        os.pread(descriptor, 1, where)


async def _send_unsized(request: Request, descriptor: int, headers: list[Header]) -> None:
    await request.send({"type": "http.response.start", "status": 200, "headers": headers})
    at = 0
    while data := await _read(descriptor, at, _PIECE):
        at += len(data)
        await request.send({"type": "http.response.body", "body": data, "more_body": True})
    await request.send({"type": "http.response.body", "body": b""})


async def _send_gzip(request: Request, descriptor: int, headers: list[Header]) -> None:
    headers.append((b"content-encoding", b"gzip"))
    await request.send({"type": "http.response.start", "status": 200, "headers": headers})
    encoder = zlib.compressobj(1, zlib.DEFLATED, 31)
    at = 0
    while data := await _read(descriptor, at, _PIECE):
        at += len(data)
        packed = await asyncio.to_thread(encoder.compress, data)
        if packed:
            await request.send({"type": "http.response.body", "body": packed, "more_body": True})
    await request.send({"type": "http.response.body", "body": encoder.flush()})


async def _read(descriptor: int, at: int, size: int) -> bytes:
    """Up to ``size`` bytes at ``at``: from the page cache at once, from the disk through a thread."""
    buffer = bytearray(size)
    try:
        count = os.preadv(descriptor, [buffer], at, os.RWF_NOWAIT)
    except OSError:  # not cached, or a file system without the flag
        count = await asyncio.to_thread(os.preadv, descriptor, [buffer], at)
    with memoryview(buffer) as view:
        return bytes(view[:count])
