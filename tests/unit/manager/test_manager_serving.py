"""The API's own socket."""

import asyncio
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.manager import serving as manager_serving
from appliance.manager.serving import serving


async def _health(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def test_the_socket_is_private_replaces_a_stale_one_and_goes_away(world: Any) -> None:
    """Mode 0600 from the start; a dead process's socket does not keep us from starting; nothing is left behind."""
    path = world.settings.control_socket
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    async with serving(world.app, path, world.settings.gateway):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await _health(path)).startswith(b"HTTP/1.1 200")
    assert not path.exists()


async def test_another_file_is_not_replaced(world: Any) -> None:
    """A path that is no socket is refused by name and left as it is."""
    path = world.settings.control_socket
    path.write_text("precious")
    with pytest.raises(ValueError, match="control_socket"):
        async with serving(world.app, path, world.settings.gateway):
            pass
    assert path.read_text() == "precious"


async def test_a_connection_its_client_closed_is_let_go(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that the gateway closed while idle do not pile up as open descriptors."""
    monkeypatch.setattr(manager_serving, "_IDLE_MARGIN", 0.0)
    limits = replace(world.settings.gateway, upstream_idle_timeout=0.05)
    path = world.settings.control_socket
    async with serving(world.app, path, limits):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
            writer.transport.abort()
        async with asyncio.timeout(10):
            while len(os.listdir("/proc/self/fd")) > before:
                await asyncio.sleep(0.01)
