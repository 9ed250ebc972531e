"""Vite in a sandbox, as people preview what an agent builds: its page and its hot updates through the gateway.

Vite is the real one from npm (``tests/e2e/vite``). It listens on 127.0.0.1 inside the sandbox, refuses hosts it does
not know, and pushes updates over a WebSocket with its own subprotocol and token.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from boxes import RunningBox
from e2b import Sandbox

pytestmark = [pytest.mark.box, pytest.mark.timeout(180)]
PORT = 5173
CONFIG = "export default { server: { host: '127.0.0.1', port: 5173, strictPort: true, allowedHosts: ['.sbx.test'] } }\n"
SOURCES = {
    "index.html": '<div id="app"></div><script type="module" src="/main.js"></script>\n',
    "main.js": "import { text } from './dep.js'\nimport.meta.hot.accept()\ndocument.title = text\n",
    "dep.js": "export const text = 'before'\n",
    "vite.config.js": CONFIG,
}


def archive() -> io.BytesIO:
    """Vite with its packages, as one file."""
    place = os.environ.get("APPLIANCE_TEST_VITE")
    if place is None:
        pytest.skip("APPLIANCE_TEST_VITE is unset; packaging/test.sh installs the npm packages of tests/e2e/vite")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        tar.add(Path(place) / "node_modules", "node_modules")
    packed.seek(0)
    return packed


@pytest.fixture(scope="module")
def sandbox(box: RunningBox) -> Iterator[Sandbox]:
    """A sandbox in which Vite's development server runs."""
    packed = archive()
    env = box.env
    access: Any = {"api_key": env["E2B_API_KEY"], "api_url": env["E2B_API_URL"], "sandbox_url": env["E2B_SANDBOX_URL"]}
    with Sandbox.create("code-interpreter", timeout=300, **access) as made:
        made.files.write("vite.tgz", packed, request_timeout=120)
        made.commands.run("mkdir app && tar xzf vite.tgz -C app", timeout=120)
        made.files.write_files([{"path": f"app/{name}", "data": text} for name, text in SOURCES.items()])
        shown: list[str] = []
        node = made.commands.run("node node_modules/vite/bin/vite.js", cwd="/home/user/app", background=True, timeout=0)
        for out, err, _ in node:
            shown.append(out or err or "")
            if "ready in" in "".join(shown):
                break
        node.disconnect()
        yield made


async def test_hot_updates_come_through_the_gateway(box: RunningBox, sandbox: Sandbox) -> None:
    """Page and modules over the host route; the WebSocket says ``connected``; a changed file arrives as an update."""
    url = box.env["E2B_SANDBOX_URL"]
    host = f"{PORT}-{sandbox.sandbox_id}.sbx.test"
    async with aiohttp.ClientSession(url, headers={"Host": host}, timeout=aiohttp.ClientTimeout(60)) as browser:

        async def got(path: str) -> str:
            async with browser.get(path) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.text()

        assert "/@vite/client" in await got("/")
        token = re.search(r'wsToken = "([^"]+)"', await got("/@vite/client"))
        assert token is not None
        async with browser.ws_connect(f"/?token={token[1]}", protocols=["vite-hmr"], origin=f"http://{host}") as socket:
            assert socket.protocol == "vite-hmr"
            assert json.loads(await socket.receive_str()) == {"type": "connected"}
            assert "before" in await got("/dep.js") and await got("/main.js")
            sandbox.files.write("app/dep.js", "export const text = 'after'\n")
            while (message := json.loads(await socket.receive_str()))["type"] != "update":
                pass
            assert [one["path"] for one in message["updates"]] == ["/main.js"]
            assert "after" in await got(f"/dep.js?t={message['updates'][0]['timestamp']}")


async def test_vite_sees_the_public_host(box: RunningBox, sandbox: Sandbox) -> None:
    """The Host that the browser sent reaches Vite, which refuses those it was not told of."""
    host = f"{PORT}-{sandbox.sandbox_id}.elsewhere.example"
    url = box.env["E2B_SANDBOX_URL"]
    async with aiohttp.ClientSession(url, headers={"Host": host}) as browser, browser.get("/") as answer:
        assert answer.status == 403 and host in await answer.text()
