"""The events service: what programs inside find at ``E2B_EVENTS_ADDRESS``."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from appliance.runtime.server import Runtime
from appliance.runtime.state import RuntimeState


@pytest.fixture
def changes() -> dict[str, Any]:
    """With the service, on a free port."""
    return {"events": True, "events_port": 0, "tunnel": False}


@pytest.fixture
async def events(envd: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, as a program inside has it: by the variable."""
    async with httpx.AsyncClient(base_url=envd.state.env["E2B_EVENTS_ADDRESS"], trust_env=False) as http:
        yield http


async def test_me_names_the_sandbox(envd, events):
    """/me is 400 until a sandbox is delivered, then names it, without a token; a later delivery has its own name."""
    assert (await events.get("/me")).status_code == 400
    for name in ("i1", "i2"):
        await envd.http.post("/init", json={"accessToken": "t", "envVars": {"E2B_SANDBOX_ID": name}})
        answer = await events.get("/me")
        assert (answer.status_code, answer.json()) == (200, {"sandboxID": name})
        assert answer.headers["content-type"] == "application/json"


async def test_logs_take_only_this_sandboxes_events(envd, events, capfdbinary):
    """An event becomes a line of the output; another sandbox's, and what is no object, are refused in JSON."""
    await envd.http.post("/init", json={"envVars": {"E2B_SANDBOX_ID": "i1"}})
    assert (await events.post("/logs", json={"instanceID": "i1", "line": "hello"})).status_code == 200
    written = capfdbinary.readouterr().out
    assert json.loads(written.removeprefix(b"event ")) == {"instanceID": "i1", "line": "hello"}
    for body in (b'{"instanceID":"i2"}', b'{"line":"x"}', b'{"instanceID":7}', b"[]", b"{", b"\xff", b""):
        answer = await events.post("/logs", content=body)
        assert (answer.status_code, answer.json()["code"]) == (400, 400), body
    assert (await events.post("/logs", content=b" " * (envd.settings.max_event + 1))).status_code == 413


async def test_other_paths_and_methods(envd, events):
    """Everything else is told in the same form."""
    for method, path, status in (("GET", "/", 404), ("POST", "/me", 405), ("GET", "/logs", 405)):
        answer = await events.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (status, status)


async def test_a_taken_port_leaves_the_rest_alone(settings, envd):
    """Where the port is taken there is no service and no variable that names one; commands and files work."""
    from dataclasses import replace

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        state = RuntimeState(settings)
        runtime = Runtime(replace(settings, events_port=taken.getsockname()[1]), state)
        await runtime.start()
    try:
        assert "events" not in runtime.ports and "E2B_EVENTS_ADDRESS" not in state.env
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"http://127.0.0.1:{runtime.ports['envd']}/health")).status_code == 204
    finally:
        await runtime.stop()
