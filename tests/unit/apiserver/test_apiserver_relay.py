"""Logs and exec reach the node's socket and come back."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

from appliance.config import ApiServerSettings
from appliance.embedded.apiserver.main import serving

POD = {
    "metadata": {"name": "p"},
    "spec": {"containers": [{"name": "main", "image": "i"}, {"name": "side", "image": "i"}]},
}
PODS = "/api/v1/namespaces/default/pods"


async def fake_node(http: web.BaseRequest) -> web.StreamResponse:
    if http.path == "/containerLogs/default/p/main":
        return web.Response(text=f"log {http.query.get('tailLines')}\n")
    if http.path == "/exec/default/p/main":
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await socket.prepare(http)
        await socket.send_bytes(b"\x01" + " ".join(http.query.getall("command")).encode())
        message = await socket.receive()
        await socket.send_bytes(b"\x01" + message.data[1:].upper())
        await socket.close()
        return socket
    return web.Response(status=404, text=f"no container at {http.path}")


@contextlib.asynccontextmanager
async def cluster(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    (tmp_path / "run").mkdir()
    digest = hashlib.sha256(b"t").hexdigest()
    (tmp_path / "run" / "tokens.json").write_text(json.dumps({digest: {"user": "u", "groups": []}}))
    runner = web.ServerRunner(web.Server(fake_node), shutdown_timeout=1)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "run" / "node.sock")).start()
    settings = ApiServerSettings(data_dir=tmp_path, listen="127.0.0.1:0")
    async with serving(settings, custom=[]) as running:
        headers = {"Authorization": "Bearer t"}
        async with aiohttp.ClientSession(running.url, headers=headers) as client:
            async with client.post(PODS, json=POD) as answer:
                assert answer.status == 201
            yield client
    await runner.cleanup()


async def test_logs(tmp_path: Path) -> None:
    """The log streams with its query; an unclear or unknown container is 400, the node's refusal keeps its status."""
    async with cluster(tmp_path) as client:
        async with client.get(f"{PODS}/p/log?container=main&tailLines=3") as answer:
            assert await answer.text() == "log 3\n"
        async with client.get(f"{PODS}/p/log") as answer:
            assert answer.status == 400 and "choose one of: [main side]" in (await answer.json())["message"]
        async with client.get(f"{PODS}/p/log?container=side") as answer:
            assert answer.status == 404 and "no container" in (await answer.json())["message"]


async def test_exec(tmp_path: Path) -> None:
    """A WebSocket reaches the node with every command word, both directions and the subprotocol."""
    async with cluster(tmp_path) as client:
        url = f"{PODS}/p/exec?container=main&command=a&command=b&stdout=true"
        async with client.ws_connect(url, protocols=("v5.channel.k8s.io",)) as socket:
            assert socket.protocol == "v5.channel.k8s.io"
            assert await socket.receive_bytes() == b"\x01a b"
            await socket.send_bytes(b"\x00hi")
            assert await socket.receive_bytes() == b"\x01HI"
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_tokens_are_reread(tmp_path: Path) -> None:
    """A token added to tokens.json works at once; a removed one stops."""
    async with cluster(tmp_path) as client:
        digest = hashlib.sha256(b"new").hexdigest()
        (tmp_path / "run" / "tokens.json").write_text(json.dumps({digest: {"user": "u2", "groups": []}}))
        async with client.get("/api") as answer:
            assert answer.status == 401
        async with client.get("/api", headers={"Authorization": "Bearer new"}) as answer:
            assert answer.status == 200


async def test_a_client_that_leaves_frees_its_watch(tmp_path: Path) -> None:
    """A cancelled watch request ends on the server without an error and without waiting for the next event."""
    async with cluster(tmp_path) as client:
        task = asyncio.create_task(client.get(f"{PODS}?watch=true"))
        answer = await task
        await answer.content.readline()
        answer.close()
        async with client.get(PODS) as again:
            assert again.status == 200
