"""Pods of claimed sandboxes are not ended behind their backs: a webhook on a real API server, a rule on the box's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from api_servers import EmbeddedApiServer
from clouds import cloud
from guards import WAIT, guarded

from appliance.api import kinds
from appliance.api.structs import SandboxSet

TEMPLATE = {"spec": {"containers": [{"name": "sandbox", "image": "one:1"}]}}


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
