"""The events service as programs in a sandbox find it (the original's hyperloop)."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import httpx
import pytest
from boxes import RunningBox
from e2b import Sandbox
from e2b.exceptions import SandboxException

pytestmark = [pytest.mark.box, pytest.mark.timeout(120)]


def options(box: RunningBox) -> dict[str, Any]:
    """How the SDK reaches the box."""
    names = {"api_key": "E2B_API_KEY", "api_url": "E2B_API_URL", "sandbox_url": "E2B_SANDBOX_URL"}
    return {name: box.env[variable] for name, variable in names.items()} | {"timeout": 60}


@pytest.mark.parametrize(
    "policy",
    [{}, {"allow_internet_access": False}, {"network": {"allow_out": ["example.com"], "deny_out": ["0.0.0.0/0"]}}],
    ids=["open", "closed", "domains"],
)
def test_a_sandbox_is_told_its_name(box: RunningBox, policy: dict[str, Any]) -> None:
    """By address, name and variable, whatever its policy; a server of its own on port 80 is not in the way."""
    with Sandbox.create("code-interpreter", **options(box), **policy) as sandbox:
        sandbox.commands.run("python3 -m http.server 80", background=True)
        for base in ("http://192.0.2.1", "http://events.e2b.local", "$E2B_EVENTS_ADDRESS"):
            said = sandbox.commands.run(f"curl -sS --max-time 5 {base}/me").stdout
            assert json.loads(said) == {"sandboxID": sandbox.sandbox_id}
        assert sandbox.commands.run("echo $E2B_EVENTS_ADDRESS").stdout == "http://192.0.2.1\n"
        assert "200" in sandbox.commands.run("curl -sS --retry 5 --retry-connrefused -I http://127.0.0.1/").stdout


def test_it_outlives_pauses_and_a_restarted_runtime(box: RunningBox) -> None:
    """After a pause, and after the runtime's server was killed, it answers as before; nobody outside is served."""
    with Sandbox.create("code-interpreter", **options(box)) as sandbox:
        sandbox.pause()
        sandbox.connect(timeout=60)
        servers = sandbox.commands.run("pgrep -f 'appliance: runtime'").stdout.split()
        assert len(servers) == 1
        with pytest.raises(SandboxException):  # its stream ends with the server
            sandbox.commands.run(f"sudo kill -9 {servers[0]}; sleep 30")
        again = "curl -sS --max-time 5 --retry 20 --retry-delay 1 --retry-all-errors http://192.0.2.1/me"
        assert json.loads(sandbox.commands.run(again).stdout) == {"sandboxID": sandbox.sandbox_id}
        headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49981"}
        answer = httpx.get(f"{box.env['E2B_SANDBOX_URL']}/me", headers=headers)
        assert (answer.status_code, answer.json()["port"]) == (502, 49981)


def test_it_outlives_the_node_agent(start_box) -> None:
    """A killed agent is back with its relay: sandboxes reach their service again."""
    box = start_box()
    with Sandbox.create("code-interpreter", **options(box)) as sandbox:
        agent = box.role_pid("node")
        os.kill(agent, signal.SIGKILL)
        box.role_pid("node", other_than=agent)
        again = "curl -sS --max-time 5 --retry 20 --retry-delay 1 --retry-all-errors http://192.0.2.1/me"
        assert json.loads(sandbox.commands.run(again).stdout) == {"sandboxID": sandbox.sandbox_id}
