"""Pods of claimed sandboxes are not ended behind their backs: a webhook on a real API server, a rule on the box's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from api_servers import EmbeddedApiServer
from clouds import Cloud, cloud

from appliance.api import kinds, labels
from appliance.api.structs import SandboxSet
from appliance.config import ControllerSettings
from appliance.controller.admission import keeping, webhook
from appliance.install.admission import objects
from appliance.kube import errors

TEMPLATE = {"spec": {"containers": [{"name": "sandbox", "image": "one:1"}]}}
WAIT = 60.0


@asynccontextmanager
async def guarded(found: Cloud, server: Any, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The rule in force: at once on the box's API server, by a webhook on a port of ours on the real one."""
    if isinstance(server, EmbeddedApiServer):
        yield
        return
    patch.setattr(keeping, "names", lambda: ["localhost"])
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    settings = ControllerSettings(webhook_listen="127.0.0.1:0")
    with suppress(errors.AlreadyExists):
        await found.user.create(kinds.NAMESPACE, None, {"metadata": {"name": labels.SYSTEM_NAMESPACE}})
    configuration = next(one for one in objects(labels.SYSTEM_NAMESPACE) if one["kind"].startswith("Validating"))
    task = asyncio.create_task(webhook.serve(found.world.cluster, settings, listening))
    try:
        port = await asyncio.wait_for(listening, WAIT)
        reached = {"url": f"https://localhost:{port}{webhook.PATH}"}
        webhooks = [{**one, "clientConfig": reached, "failurePolicy": "Fail"} for one in configuration["webhooks"]]
        await found.user.create(kinds.VALIDATINGWEBHOOK, None, {**configuration, "webhooks": webhooks})
        material = await keeping.current(found.world.cluster, found.world.clock())
        await keeping.trust(found.world.cluster, material.bundle)
        yield
    finally:
        await found.user.delete(kinds.VALIDATINGWEBHOOK, None, labels.WEBHOOK_CONFIGURATION)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_claimed_pods_are_protected_and_pool_members_are_not(
    apiserver: Any, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting and evicting a claimed sandbox's pod is refused in words; its controller still may; pools heal."""
    async with cloud(apiserver, namespace) as found, guarded(found, apiserver, monkeypatch):
        body = {"metadata": {"name": "ci"}, "spec": {"replicas": 1, "template": TEMPLATE}}
        await found.user.create(kinds.SANDBOXSET, namespace, body)

        def full(item: SandboxSet | None) -> bool:
            return item is not None and item.status.available_replicas == 1

        await found.world.sets.wait_for(namespace, "ci", full, WAIT)
        spec = {"template": TEMPLATE, "pauseStrategy": {"type": "Stop"}}
        await found.user.create(kinds.SANDBOX, namespace, {"metadata": {"name": "mine"}, "spec": spec})

        def phase(name: str, wanted: str) -> Any:
            return found.world.sandboxes.wait_for(
                namespace, name, lambda item: item is not None and item.status.phase == wanted, WAIT
            )

        await phase("mine", "Running")
        async with asyncio.timeout(WAIT):  # a new configuration takes the API server a moment
            while True:
                path = f"/api/v1/namespaces/{namespace}/pods/mine?dryRun=All"
                code, answer = await asyncio.to_thread(apiserver.request, "DELETE", path)
                if code == 403:
                    break
                await asyncio.sleep(0.1)
        words = answer["message"]
        assert "cannot delete pod" in words and "corresponding sandbox exists" in words
        if not isinstance(apiserver, EmbeddedApiServer):
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "mine"}}
            path = f"/api/v1/namespaces/{namespace}/pods/mine/eviction"
            code, answer = await asyncio.to_thread(apiserver.request, "POST", path, eviction)
            assert code == 403 and "cannot evict pod" in answer["message"]
        (member,) = [item for item in found.world.sandboxes.items() if item.name.startswith("ci-")]
        await found.user.delete(kinds.POD, namespace, member.name)
        await found.user.patch(kinds.SANDBOX, namespace, "mine", {"spec": {"paused": True}})
        await phase("mine", "Paused")
        await found.pods.wait_for(namespace, "mine", lambda item: item is None, WAIT)
