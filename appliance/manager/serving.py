"""Hypercorn, serving the API on a Unix socket that only this user can open.

The socket is made here and handed over listening, so that whoever starts after this never finds it closed. Its clients
are the gateway's connections: kept long, used again and again, hence no limit on requests per connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart

from appliance.config import GatewaySettings

BACKLOG = 1024
_IDLE_MARGIN = 3.0
"""Seconds: so much later than its client this server gives up an idle connection."""


@asynccontextmanager
async def serving(app: Quart, path: Path, limits: GatewaySettings) -> AsyncIterator[None]:
    """Serve ``app`` on ``path`` (mode 0600) inside the block; requests in flight get ``drain_timeout`` at its end.

    Raises OSError when the socket cannot be made, ValueError when ``path`` is something else than a stale socket.
    """
    stop = asyncio.Event()
    config = _config(limits)
    config.bind = [f"fd://{_listen(path).detach()}"]
    task = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait), name="hypercorn")
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait([task])
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        task.result()


def _config(limits: GatewaySettings) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = "-"
    config.loglevel = "WARNING"
    config.backlog = BACKLOG
    config.keep_alive_max_requests = sys.maxsize
    # Hypercorn notices that an idle connection was closed by its client only when this runs out, and holds the
    # descriptor until then. The gateway reuses none after ``upstream_idle_timeout``.
    config.keep_alive_timeout = limits.upstream_idle_timeout + _IDLE_MARGIN
    config.graceful_timeout = limits.drain_timeout
    config.h11_max_incomplete_size = limits.max_head
    config.include_server_header = False
    config.include_date_header = False
    return config


def _listen(path: Path) -> socket.socket:
    """A listening socket; one left by a process that was killed is replaced."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ValueError(f"control_socket: {path}: expected a socket or nothing, found another file")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener
