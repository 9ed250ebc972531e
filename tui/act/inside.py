"""Inside a sandbox, through the cluster's exec endpoint: an open stream, and the output of one command.

The protocol is Kubernetes' ``v4.channel.k8s.io``: WebSocket messages whose first byte is the channel (0 stdin, 1
stdout, 2 stderr, 3 a Status at the end, 4 the terminal's size).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from appliance.api.kinds import POD
from appliance.kube import errors
from appliance.kube.cluster import Cluster
from tui.feed.live import access_to
from tui.model.change import Key

STDIN, STDOUT, STDERR, STATUS, RESIZE = range(5)
PROTOCOL: Final = "v4.channel.k8s.io"
OUTPUT_LIMIT: Final = 1024 * 1024
"""Bytes of a command's output that are shown."""
TIMEOUT: Final = 15.0
"""Seconds for a command whose output is shown."""


@asynccontextmanager
async def channel(
    cluster: Cluster, key: Key, command: list[str], *, tty: bool
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """An open exec stream. Raises KubeError."""
    access = await access_to(cluster.settings)
    flags = {"stdout": "true", "stdin": "true" if tty else "false", "stderr": "false" if tty else "true"}
    query = [*(("command", word) for word in command), *flags.items(), ("tty", "true" if tty else "false")]
    url = URL(access.server + POD.path(*key, "exec"), encoded=True).with_query(query)
    headers = {"Authorization": access.authorization} if access.authorization else {}
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(
                url, headers=headers, ssl=access.tls or True, protocols=[PROTOCOL], proxy=access.proxy, heartbeat=30
            ) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            raise errors.from_answer(error.status, error.message.encode()) from error
        except (aiohttp.ClientError, OSError) as error:
            raise errors.Unreachable(f"exec in {key[1]}: {error}") from error


async def output(cluster: Cluster, key: Key, command: list[str]) -> str:
    """What a command in the sandbox prints, both streams, and why it failed if it did. Raises KubeError."""
    found = bytearray()
    try:
        async with asyncio.timeout(TIMEOUT), channel(cluster, key, command, tty=False) as socket:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                    continue
                number, body = message.data[0], message.data[1:]
                if number in (STDOUT, STDERR) and len(found) < OUTPUT_LIMIT:
                    found += body
                elif number == STATUS:
                    found += _failure(body)
                    break
    except TimeoutError:
        found += f"\n-- no end after {TIMEOUT:g} s".encode()
    return found.decode("utf-8", "replace")


def _failure(status: bytes) -> bytes:
    try:
        told = json.loads(status)
    except ValueError:
        return b""
    return b"" if told.get("status") == "Success" else f"\n-- {told.get('message', 'failed')}".encode()
