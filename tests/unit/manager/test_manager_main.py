"""The whole role, wired by ``main.run``, on the embedded API server: from readiness to an orderly end."""

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from e2b import AsyncSandbox

from appliance.api import labels
from appliance.api.kinds import SANDBOX, SANDBOXSET
from appliance.box.layout import Layout
from appliance.config import ApiServerSettings, GatewaySettings, KubeSettings, ManagerSettings
from appliance.embedded.apiserver.main import serving as apiserver
from appliance.kube.cluster import Cluster
from appliance.manager.main import run


class _Ready(logging.Handler):
    """Catches the readiness line."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("ready: serving on ") and not self.address.done():
            self.address.set_result(text.removeprefix("ready: serving on "))


async def _pool(cluster: Cluster) -> None:
    """A set with one warm sandbox, as a controller would make it."""
    spec = {"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "x"}]}}}
    pool = await cluster.create(SANDBOXSET, "default", {"metadata": {"name": "python"}, "spec": spec})
    owner = {"apiVersion": labels.API_VERSION, "kind": "SandboxSet", "name": "python", "uid": pool.uid}
    own = {labels.POOL: "python", labels.TEMPLATE: "python", labels.CLAIMED: "false"}
    meta = {"name": "python-0", "labels": own, "ownerReferences": [{**owner, "controller": True}]}
    await cluster.create(SANDBOX, "default", {"metadata": meta, "spec": {"template": spec["template"]}})
    ready: dict[str, Any] = {"type": "Ready", "status": "True", "reason": "PodReady", "message": ""}
    ready["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    status = {"phase": "Running", "sandboxIp": "127.0.0.1", "conditions": [ready]}
    await cluster.patch(SANDBOX, "default", "python-0", {"status": status}, subresource="status")


async def test_start_serve_and_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It becomes ready, makes seed and key store, serves the SDK, and SIGTERM ends it with nothing left open."""
    layout = Layout(tmp_path)
    layout.prepare("127.0.0.1:1")
    async with apiserver(ApiServerSettings(data_dir=tmp_path, listen="127.0.0.1:0")) as server:
        layout.prepare(server.url.rpartition("/")[2])
        settings = ManagerSettings(
            kube=KubeSettings(kubeconfig=layout.kubeconfig("manager")),
            gateway=GatewaySettings(listen="127.0.0.1:0"),
            control_socket=layout.run / "manager.sock",
            initial_key_file=layout.api_key,
        )
        async with await Cluster.connect(settings.kube) as cluster:
            await _pool(cluster)
        ready = _Ready()
        logger = logging.getLogger("appliance.manager.main")
        logger.addHandler(ready)
        caplog.set_level(logging.INFO, logger.name)
        task = asyncio.create_task(run(settings))
        try:
            async with asyncio.timeout(20):
                url = f"http://{await ready.address}"
                options: Any = {"api_key": layout.api_key.read_text().strip(), "api_url": url, "sandbox_url": url}
                orders = {f"{labels.E2B_PREFIX}skip-init-runtime": "true"}
                sandbox = await AsyncSandbox.create("python", metadata=orders, **options)
                assert (await sandbox.get_info()).template_id == "python"
                assert await sandbox.kill() is True
                os.kill(os.getpid(), signal.SIGTERM)
                await task
        finally:
            logger.removeHandler(ready)
            task.cancel()
        assert not settings.control_socket.exists()
        assert layout.api_key.read_text().strip() not in caplog.text
