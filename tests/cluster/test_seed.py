"""The seed on a real cluster: its SandboxSet as written, its programs with the unmodified SDKs.

On a node made here the programs run in its network and reach the managers through their Service's cluster address, as
a pod would; two manager replicas answer.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from e2b_code_interpreter import Sandbox
from realnode.roles import Cloud

from appliance.api import labels

pytestmark = [pytest.mark.realnode, pytest.mark.timeout(600)]
E2E = Path(__file__).parents[1] / "e2e"
PROGRAM = E2E / "seed" / "sdk_program.py"


def test_every_program_of_the_seed_runs_unmodified(cloud: Cloud) -> None:
    """§2.1.1 to §2.1.5 run to their end through the Service of two managers and print what the document says."""
    ready = cloud.get("deploy", "sandbox-manager", "-n", labels.SYSTEM_NAMESPACE)["status"]["readyReplicas"]
    assert ready == 2
    done = cloud.cluster.run(sys.executable, str(PROGRAM), env=cloud.env(inside=True), timeout=400)
    assert done.returncode == 0, f"{done.stderr}\n{cloud.picture()}"
    lines = done.stdout.splitlines()
    assert lines[0].startswith("sandbox id: i")
    assert lines[1] == f"sandbox {lines[0].removeprefix('sandbox id: ')} killed"
    assert PROGRAM.read_text() in done.stdout
    assert "hello" in lines and "world" in lines
    assert any("exit_code=0" in line for line in lines)


@pytest.mark.parametrize("program", ["sdk", "interpreter"])
def test_the_javascript_sdks_run_unmodified(cloud: Cloud, tmp_path: Path, program: str) -> None:
    """A whole life through ``e2b`` and ``@e2b/code-interpreter``: every assertion of the program holds."""
    modules = os.environ.get("APPLIANCE_TEST_JS")
    if modules is None:
        pytest.skip("APPLIANCE_TEST_JS is unset; packaging/test.sh installs the npm packages of tests/e2e/js")
    (tmp_path / "node_modules").symlink_to(Path(modules) / "node_modules")
    script = shutil.copy(E2E / "js" / f"{program}.mjs", tmp_path)
    env = {**cloud.env(inside=True), "APPLIANCE_TEST_NO_EGRESS": "1"}
    done = cloud.cluster.run("node", str(script), env=env, timeout=300)
    assert (done.returncode, done.stdout) == (0, "ok\n"), f"{done.stderr}\n{cloud.picture()}"


def test_the_pool_runs_the_seeds_manifest_with_the_runtime_in_it(cloud: Cloud) -> None:
    """Its pods have the seed's image and limits; our image is the sidecar, and no service account is inside."""
    pods = cloud.get("pods", "-n", "default", "-l", f"{labels.CREATED_BY}={labels.CREATED_BY_SANDBOX}")["items"]
    assert pods
    for pod in pods:
        spec, main = pod["spec"], pod["spec"]["containers"][0]
        assert main["image"] == "e2bdev/code-interpreter:latest"
        assert main["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
        sidecar = spec["initContainers"][0]
        assert "appliance" in sidecar["image"] and sidecar["restartPolicy"] == "Always"
        assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("image", "restarts"), [
    ("e2bdev/code-interpreter:latest", 0), ("docker.io/e2bdev/code-interpreter:latest", 1),
])  # fmt: skip
def test_the_seeds_in_place_upgrade(sdk: Cloud, image: str, restarts: int) -> None:
    """§2.2.1: created with an image, the answer comes when that image runs; another name than the pool's makes the
    kubelet replace the container in the same pod.
    """
    sdk.await_pool("code-interpreter", 1)  # a sandbox made for its claim would have the image from the beginning
    metadata = {"e2b.agents.kruise.io/image": image}
    with Sandbox.create(template="code-interpreter", timeout=300, metadata=metadata, request_timeout=180) as sandbox:
        assert sandbox.run_code("6 * 7").text == "42"
        found = sdk.get("sbx", "-n", "default", "-l", f"{labels.SANDBOX_ID}={sandbox.sandbox_id}")["items"][0]
        pod = sdk.get("pod", found["metadata"]["name"], "-n", "default")
        assert pod["spec"]["containers"][0]["image"] == image
        assert pod["status"]["containerStatuses"][0]["restartCount"] == restarts
        claimed = pod["metadata"]["labels"][labels.SANDBOX_NAME]
        assert claimed == found["metadata"]["name"]
