"""The rule that protects pods of sandboxes, in force on a contract test's API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from api_servers import EmbeddedApiServer
from clouds import Cloud

from appliance.api import kinds, labels
from appliance.config import ControllerSettings
from appliance.controller.admission import keeping, webhook
from appliance.install.admission import objects
from appliance.kube import errors

WAIT = 60.0
SETTINGS = ControllerSettings(webhook_listen="127.0.0.1:0")


@asynccontextmanager
async def guarded(
    found: Cloud, server: Any, patch: pytest.MonkeyPatch, *, replicas: int = 1, **settings: Any
) -> AsyncIterator[list[int]]:
    """At once on the box's API server, which has the rule; by a webhook on ports of ours, which it gives, on the real
    one, which asks every replica and refuses when one does not answer.
    """
    if isinstance(server, EmbeddedApiServer):
        yield []
        return
    patch.setattr(keeping, "names", lambda: ["localhost"])
    loop = asyncio.get_running_loop()
    listening: list[asyncio.Future[int]] = [loop.create_future() for _ in range(replicas)]
    with suppress(errors.AlreadyExists):
        await found.user.create(kinds.NAMESPACE, None, {"metadata": {"name": labels.SYSTEM_NAMESPACE}})
    configuration = next(one for one in objects(labels.SYSTEM_NAMESPACE) if one["kind"].startswith("Validating"))
    chosen = replace(SETTINGS, **settings)
    tasks = [asyncio.create_task(webhook.serve(found.world.cluster, chosen, one)) for one in listening]
    try:
        ports = [await asyncio.wait_for(one, WAIT) for one in listening]
        webhooks = [
            {
                **one,
                "name": f"r{port}.{one['name']}",
                "clientConfig": {"url": f"https://localhost:{port}{webhook.PATH}"},
                "failurePolicy": "Fail",
                "timeoutSeconds": 30,
            }
            for one in configuration["webhooks"]
            for port in ports
        ]
        await found.user.create(kinds.VALIDATINGWEBHOOK, None, {**configuration, "webhooks": webhooks})
        material = await keeping.current(found.world.cluster, found.world.clock())
        await keeping.trust(found.world.cluster, material.bundle)
        yield ports
    finally:
        with suppress(errors.NotFound):
            await found.user.delete(kinds.VALIDATINGWEBHOOK, None, labels.WEBHOOK_CONFIGURATION)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
