"""Logs and exec of pods: relayed byte for byte to the node agent on its Unix socket.

The node serves ``/containerLogs/NS/POD/CONTAINER`` as a plain stream and ``/exec/NS/POD/CONTAINER`` as a WebSocket with
the Kubernetes channel subprotocols. Both directions carry back-pressure; closing either side closes the other.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from urllib.parse import quote

import aiohttp
from aiohttp import web

from appliance.embedded.apiserver.status import ApiStatus, bad_request, unavailable

log = logging.getLogger(__name__)
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
MAX_MESSAGE = 16 * 1024 * 1024
CONNECT_TIMEOUT = 5.0


class NodeRelay:
    """A client of the node's socket. ``start`` before use, ``close`` at the end."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        """Makes the HTTP client; nothing is connected yet."""
        connector = aiohttp.UnixConnector(str(self._socket), limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)

    async def close(self) -> None:
        """Ends every relay."""
        if self._session is not None:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise unavailable("the node relay is not running")
        return self._session

    async def logs(self, http: web.BaseRequest, namespace: str, pod: str, container: str) -> web.StreamResponse:
        """Streams a container's log; errors of the node keep their status and text."""
        url = f"http://node/containerLogs/{quote(namespace)}/{quote(pod)}/{quote(container)}"
        try:
            async with self._client().get(url, params=http.query) as answer:
                if answer.status != 200:
                    raise _refusal(answer.status, await answer.text())
                response = web.StreamResponse(headers={"Content-Type": "text/plain"})
                await response.prepare(http)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except aiohttp.ClientConnectionError as error:
            raise unavailable(f"the node agent does not answer on {self._socket}: {error}") from None

    async def exec(self, http: web.BaseRequest, namespace: str, pod: str, container: str) -> web.StreamResponse:
        """Relays an exec session; ApiStatus 400 when the client did not ask for a WebSocket."""
        if http.headers.get("Upgrade", "").lower() != "websocket":
            raise bad_request("exec needs a WebSocket (v5.channel.k8s.io or v4.channel.k8s.io); SPDY is not served")
        offered = [p.strip() for p in http.headers.get("Sec-WebSocket-Protocol", "").split(",") if p.strip()]
        url = f"http://node/exec/{quote(namespace)}/{quote(pod)}/{quote(container)}"
        try:
            async with self._client().ws_connect(
                url, protocols=offered, params=http.query, max_msg_size=MAX_MESSAGE, autoping=True
            ) as node:
                chosen = (node.protocol,) if node.protocol else ()
                client = web.WebSocketResponse(protocols=chosen, max_msg_size=MAX_MESSAGE)
                await client.prepare(http)
                await _splice(client, node)
                return client
        except aiohttp.WSServerHandshakeError as error:
            raise _refusal(error.status, error.message) from None
        except aiohttp.ClientConnectionError as error:
            raise unavailable(f"the node agent does not answer on {self._socket}: {error}") from None


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _splice(client: web.WebSocketResponse, node: aiohttp.ClientWebSocketResponse) -> None:
    """Copies both ways until one side ends, then closes both with the node's close code."""
    tasks = [asyncio.create_task(_copy(client, node)), asyncio.create_task(_copy(node, client))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await node.close()
        await client.close(code=node.close_code or 1000)


async def _copy(source: Socket, target: Socket) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.BINARY:
            await target.send_bytes(message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)


def _refusal(status: int, text: str) -> ApiStatus:
    reason = {400: "BadRequest", 404: "NotFound", 409: "Conflict"}.get(status, "InternalError")
    return ApiStatus(status if status >= 400 else 500, reason, text.strip() or f"the node answered {status}")
