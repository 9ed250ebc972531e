"""The unmodified Python SDK against the real application, Hypercorn and gateway; only cluster and runtime are fakes."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from e2b import AsyncSandbox, SandboxQuery, SandboxState
from e2b.exceptions import AuthenticationException, NotFoundException, SandboxException
from e2b.sandbox_async.sandbox_api import AsyncSandboxPaginator

from appliance.gateway import Gateway
from appliance.manager.serving import serving


@pytest.fixture
async def options(world: Any) -> AsyncIterator[dict[str, Any]]:
    """Connection options of an SDK that points at a served manager."""
    limits = replace(world.settings.gateway, listen="127.0.0.1:0", drain_timeout=1.0)
    gateway = Gateway(limits, world.routes, world.settings.control_socket)
    async with serving(world.app, world.settings.control_socket, limits):
        await gateway.start()
        host, port = gateway.addresses[0]
        try:
            yield {"api_key": world.key, "api_url": f"http://{host}:{port}", "sandbox_url": f"http://{host}:{port}"}
        finally:
            await gateway.drain()


async def test_create_info_list_timeout_and_kill(world: Any, options: dict[str, Any]) -> None:
    """The models that the SDK parses parse, and mean what they should."""
    sandbox = await AsyncSandbox.create("python", timeout=60, metadata={"a b": "c&d=é"}, envs={"X": "1"}, **options)
    info = await sandbox.get_info()
    assert info.sandbox_id == sandbox.sandbox_id and info.template_id == "python" and info.name == "python"
    assert info.metadata == {"a b": "c&d=é"} and info.state == SandboxState.RUNNING
    assert (info.cpu_count, info.memory_mb) == (2, 1024)
    left = info.end_at - datetime.datetime.now(datetime.UTC)
    assert 55 <= left.total_seconds() <= 61
    await sandbox.set_timeout(600)
    info = await sandbox.get_info()
    assert (info.end_at - datetime.datetime.now(datetime.UTC)).total_seconds() > 590
    paginator: AsyncSandboxPaginator = AsyncSandbox.list(query=SandboxQuery(metadata={"a b": "c&d=é"}), **options)
    assert [one.sandbox_id for one in await paginator.next_items()] == [sandbox.sandbox_id]
    assert await (AsyncSandbox.list(query=SandboxQuery(metadata={"a b": "other"}), **options)).next_items() == []
    assert await sandbox.kill() is True
    assert await AsyncSandbox.kill(sandbox.sandbox_id, **options) is False
    with pytest.raises(NotFoundException):
        await AsyncSandbox.get_info(sandbox.sandbox_id, **options)


async def test_pause_and_connect(world: Any, options: dict[str, Any]) -> None:
    """pause() is True, then False; connect() resumes; a paused sandbox is not running."""
    sandbox = await AsyncSandbox.create("python", timeout=60, **options)
    assert await sandbox.pause() is True
    assert await sandbox.pause() is False
    assert (await sandbox.get_info()).state == SandboxState.PAUSED
    assert await sandbox.is_running() is False
    again = await AsyncSandbox.connect(sandbox.sandbox_id, **options)
    assert again.sandbox_id == sandbox.sandbox_id
    assert (await again.get_info()).state == SandboxState.RUNNING
    await sandbox.kill()


async def test_pages(world: Any, options: dict[str, Any]) -> None:
    """The SDK's paginator follows X-Next-Token to the end, newest first."""
    made = [(await AsyncSandbox.create("python", **options)).sandbox_id for _ in range(3)]
    paginator = AsyncSandbox.list(limit=2, **options)
    found = [one.sandbox_id for one in await paginator.next_items()]
    assert paginator.has_next
    found += [one.sandbox_id for one in await paginator.next_items()]
    assert not paginator.has_next and found == made[::-1]


async def test_errors_become_the_sdks_own(world: Any, options: dict[str, Any]) -> None:
    """A wrong key, an unknown template and a refused option raise the SDK's exception types."""
    with pytest.raises(AuthenticationException):
        await AsyncSandbox.create("python", **{**options, "api_key": "e2b_" + "00" * 20})
    with pytest.raises(SandboxException, match="template 'nothing' not found"):
        await AsyncSandbox.create("nothing", **options)
    with pytest.raises(SandboxException, match=r"network\.denyOut.*example\.com"):
        await AsyncSandbox.create("python", network={"deny_out": ["example.com"]}, **options)
    with pytest.raises(NotFoundException):
        await AsyncSandbox.connect("i" + "0" * 20, **options)


async def test_a_kill_while_creating_in_parallel_leaves_each_with_its_own(world: Any, options: dict[str, Any]) -> None:
    """Three creates at once get three different sandboxes."""
    made = await asyncio.gather(*(AsyncSandbox.create("python", **options) for _ in range(3)))
    assert len({one.sandbox_id for one in made}) == 3
    assert all(await asyncio.gather(*(one.kill() for one in made)))


async def test_a_client_that_hangs_up_in_the_middle_of_a_create_leaves_nothing(
    world: Any, options: dict[str, Any]
) -> None:
    """The gateway's closed connection cancels the request, and the sandbox that was taken is deleted."""
    entered, never = asyncio.Event(), asyncio.Event()

    async def hang(*_: Any, **__: Any) -> None:
        entered.set()
        await never.wait()

    world.runtime.init = hang
    host, port = options["api_url"].removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    body = b'{"templateID":"python"}'
    head = f"POST /v2/sandboxes HTTP/1.1\r\nHost: x\r\nX-API-Key: {world.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await entered.wait()
    taken = next(one for one in world.caches.sandboxes.items() if one.meta.labels.get("agents.kruise.io/sandbox-id"))
    writer.close()
    assert await world.caches.sandboxes.wait_for("default", taken.name, lambda one: one is None, 10) is None
    assert world.engine.stock("default", "python") == 2


async def test_a_control_request_with_the_sandboxs_own_headers_is_a_control_request(
    world: Any, options: dict[str, Any]
) -> None:
    """e2b 2.8 sends sandbox.connect() to the API with E2b-Sandbox-Id and -Port: it must resume a paused sandbox."""
    sandbox = await AsyncSandbox.create("python", **options)
    await sandbox.pause()
    own = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983", "X-API-Key": world.key}
    url = f"{options['api_url']}/sandboxes/{sandbox.sandbox_id}/connect"
    async with aiohttp.ClientSession() as session, session.post(url, headers=own, json={"timeout": 60}) as answer:
        assert answer.status == 201
    assert (await sandbox.get_info()).state == SandboxState.RUNNING
