"""Health, init, tokens, freeze, metrics, tunnel, and the manners of the HTTP server."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace

import httpx
import pytest

from appliance.claims.authority import new_authority
from appliance.runtime.server import Runtime
from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.state import RuntimeState


async def test_health_needs_no_token(envd):
    """GET /health is 204, uncached, open even with a token set."""
    envd.state.access_token = "t"
    answer = await envd.http.get("/health")
    assert (answer.status_code, answer.headers["cache-control"]) == (204, "no-store")


async def test_init_applies_saves_and_answers(envd):
    """/init sets token, variables, user and directory, hands a snapshot to the supervisor, and tells the version."""
    body = {"accessToken": "t", "envVars": {"A": "1"}, "defaultUser": "root", "defaultWorkdir": "/srv", "unknown": 1}
    answer = await envd.http.post("/init", json=body)
    assert (answer.status_code, answer.headers["x-envd-version"]) == (204, "0.6.13")
    restored = RuntimeState(RuntimeSettings())
    restored.restore(envd.channel.saved[-1])
    for state in (envd.state, restored):
        assert (state.access_token, state.user_env, state.default_user) == ("t", {"A": "1"}, "root")
        assert state.default_workdir == "/srv"


async def test_init_replaces_the_user_variables(envd):
    """A second /init replaces the user's variables; system ones stay; /envs shows both."""
    await envd.http.post("/init", json={"envVars": {"A": "1", "B": "2"}})
    await envd.http.post("/init", json={"envVars": {"B": "3"}})
    assert (await envd.http.get("/envs")).json() == {"E2B_SANDBOX": "true", "B": "3"}


async def test_init_with_a_token_set(envd):
    """Once a token is set /init needs it, in the header or repeated in the body; with it the token can change."""
    await envd.http.post("/init", json={"accessToken": "t1"})
    for body, headers, status in (
        ({}, {}, 401),
        ({"accessToken": "wrong"}, {}, 401),
        ({"accessToken": "t1"}, {}, 204),
        ({"accessToken": "t2"}, {"x-access-token": "t1"}, 204),
        ({"accessToken": "t1"}, {}, 401),
    ):
        assert (await envd.http.post("/init", json=body, headers=headers)).status_code == status
    assert envd.state.access_token == "t2"


async def test_init_brings_an_authority(tmp_path):
    """It is in the store and programs are pointed at it, also by the next server; an empty one takes it away again."""
    settings = RuntimeSettings(host="127.0.0.1", envd_port=0, interpreter=False, tunnel=False, trust_root=tmp_path)
    state, certificate = RuntimeState(settings), new_authority().certificate
    runtime = Runtime(settings, state, None)
    await runtime.start()
    bundle = tmp_path / "etc/ssl/certs/ca-certificates.crt"
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{runtime.ports['envd']}", trust_env=False) as http:
        refused = await http.post("/init", json={"caBundle": "no certificate", "envVars": {"A": "1"}})
        assert refused.status_code == 400 and "caBundle" in refused.text and state.user_env == {}
        await http.post("/init", json={"caBundle": certificate, "envVars": {"SSL_CERT_FILE": "/mine"}})
        await http.post("/init", json={})
        assert bundle.read_text() == certificate and "REQUESTS_CA_BUNDLE" not in state.env
        restored = RuntimeState(settings)
        restored.restore(state.snapshot())
        for one in (state, restored):
            assert one.env["NODE_EXTRA_CA_CERTS"] == "/usr/local/share/ca-certificates/e2b-ca.crt"
            assert one.env["SSL_CERT_FILE"] == "/mine"
        await http.post("/init", json={"caBundle": ""})
        assert bundle.read_text() == "" and "NODE_EXTRA_CA_CERTS" not in state.env
    await runtime.stop()


async def test_older_init_is_ignored(envd):
    """An init with an older timestamp answers 204 and changes nothing."""
    await envd.http.post("/init", json={"envVars": {"V": "new"}, "timestamp": "2026-01-02T00:00:00.000000002Z"})
    old = {"envVars": {"V": "old"}, "timestamp": "2026-01-02T01:00:00.000000001+01:00"}
    assert (await envd.http.post("/init", json=old)).status_code == 204
    assert envd.state.user_env == {"V": "new"}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{", "/init"),
        (b'{"envVars": {"A": 1}}', "envVars"),
        (b'{"envVars": {"A=B": "1"}}', "envVars"),
        (b'{"accessToken": ""}', "accessToken"),
        (b'{"timestamp": "yesterday"}', "timestamp"),
        (b'{"volumeMounts": [{}]}', "volumeMounts"),
        (b'{"caBundle": "x"}', "caBundle"),
    ],
)
async def test_bad_init(envd, body, named):
    """Malformed and unsupported fields are 400 and named; nothing is applied."""
    answer = await envd.http.post("/init", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, 400)
    assert named in answer.json()["message"]
    assert envd.channel.saved == []


async def test_token_guards_everything_else(envd):
    """With a token RPC, metrics, envs, freeze and unknown paths are plain 401; the token opens them."""
    envd.state.access_token = "t"
    for method, path in (
        ("POST", "/process.Process/List"),
        ("GET", "/metrics"),
        ("GET", "/envs"),
        ("POST", "/freeze"),
        ("POST", "/unfreeze"),
        ("GET", "/nothing"),
    ):
        answer = await envd.http.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (401, 401), path
    headers = {"x-access-token": "t"}
    assert (await envd.rpc("process.Process/List", {}, x_access_token="t")).json() == {}
    assert (await envd.http.get("/nothing", headers=headers)).status_code == 404
    assert (await envd.http.get("/init", headers=headers)).status_code == 405


async def test_cors(envd):
    """Preflights pass without a token and allow everything."""
    envd.state.access_token = "t"
    answer = await envd.http.options("/process.Process/Start")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, "*")
    assert "POST" in answer.headers["access-control-allow-methods"]


async def test_metrics(envd):
    """The reading has every field of the contract and plausible values."""
    got = (await envd.http.get("/metrics")).json()
    assert set(got) == {
        "ts", "cpu_count", "cpu_used_pct", "mem_total", "mem_used", "mem_cache", "mem_total_mib", "mem_used_mib",
        "disk_used", "disk_total",
    }  # fmt: skip
    assert 0 < got["mem_used"] <= got["mem_total"]
    assert 0 <= got["cpu_used_pct"] <= 100


async def test_rpc_content_types(envd):
    """A wrong content type is 415 with the accepted ones; an unknown method of a service is a JSON 404."""
    answer = await envd.http.post("/process.Process/List", content=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.headers["accept-post"]) == (415, "application/json, application/proto")
    assert (await envd.rpc("process.Process/Nothing", {})).json()["code"] == 404


async def test_huge_head_is_refused(envd):
    """A request head above the limit is 431 and the connection closes."""
    port = envd.runtime.ports["envd"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 100_000 + b"\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def tunnel(envd, line: bytes):
    reader, writer = await asyncio.open_connection("127.0.0.1", envd.runtime.ports["tunnel"])
    writer.write(line)
    return reader, writer


async def test_tunnel(envd):
    """ok splices both ways with half-close; a closed port is refused; a wrong token or line is denied."""

    async def echo(reader, writer):
        writer.write(await reader.read())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    envd.state.access_token = "t"
    reader, writer = await tunnel(envd, json.dumps({"port": port, "token": "t"}).encode() + b"\n")
    assert await reader.readline() == b"ok\n"
    writer.write(b"x" * 1_000_000)
    writer.write_eof()
    assert len(await reader.read()) == 1_000_000
    writer.close()
    server.close()
    await server.wait_closed()
    for line, answer in (
        ({"port": port, "token": "t"}, b"refused\n"),
        ({"port": port, "token": "no"}, b"denied\n"),
        ({"port": 0, "token": "t"}, b"refused\n"),
        ("nonsense", b"denied\n"),
    ):
        reader, writer = await tunnel(envd, json.dumps(line).encode() + b"\n")
        assert await reader.read() == answer
        writer.close()


async def test_freeze_and_unfreeze(tmp_path):
    """In a pid namespace of its own everything but the runtime stops and goes on; what was stopped before stays so."""
    if os.geteuid() != 0:
        pytest.skip("a pid namespace needs root: run as root")
    script = tmp_path / "probe.py"
    script.write_text(_FREEZE_PROBE)
    process = await asyncio.create_subprocess_exec(
        "unshare",
        "-mpf",
        "--kill-child",
        "--mount-proc",
        os.sys.executable,
        str(script),
        stdout=-1,
        stderr=-1,
        cwd=os.getcwd(),
    )
    try:
        async with asyncio.timeout(30):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert json.loads(out or b"null") == [["T", "T"], ["S", "T"]], err.decode()


_FREEZE_PROBE = """
import json, os, signal, subprocess, sys
sys.path.insert(0, os.getcwd())
from appliance.runtime import freeze
a = subprocess.Popen(["sleep", "60"])
b = subprocess.Popen(["sleep", "60"])
os.kill(b.pid, signal.SIGSTOP)
os.waitid(os.P_PID, b.pid, os.WSTOPPED)
def wait(pid, state):
    while freeze._read(freeze.Path(f"/proc/{pid}/stat")).state != state:
        os.sched_yield()
    return state
def state(pid): return freeze._read(freeze.Path(f"/proc/{pid}/stat")).state
stopped = freeze.freeze()
seen = [[wait(a.pid, "T"), state(b.pid)]]
assert [pid for pid, _ in stopped] == [a.pid], stopped
freeze.unfreeze(stopped)
seen.append([wait(a.pid, "S"), state(b.pid)])
print(json.dumps(seen))
a.kill(); b.kill()
"""


@pytest.fixture
def marked(settings, tmp_path):
    """Settings that write marker files below a directory."""
    return replace(settings, marker_root=tmp_path)


async def test_init_leaves_the_marker_files(marked, tmp_path):
    """Programs find the ids in /run/e2b and /.e2b; a link that a user left in their place is replaced, not followed."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / ".e2b").symlink_to(victim)
    runtime = Runtime(marked, RuntimeState(marked))
    await runtime.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{runtime.ports['envd']}") as http:
            variables = {"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": "i1", "E2B_TEMPLATE_ID": "base"}
            assert (await http.post("/init", json={"envVars": variables})).status_code == 204
    finally:
        await runtime.stop()
    written = {path.name: path.read_text() for path in (tmp_path / "run/e2b").iterdir()}
    assert written == {f".{name}": value for name, value in variables.items()}
    assert (tmp_path / ".e2b").read_text() == "ENV_ID=base\nTEMPLATE_ID=base\n"
    assert victim.read_text() == "untouched"


async def test_json_nested_without_end_is_a_400(envd):
    """A body of thousands of brackets is refused as malformed, it does not count as a fault of the runtime."""
    nested = b'{"x": ' * 5000
    for path in ("/files/compose", "/init", "/process.Process/Start", "/filesystem.Filesystem/Stat"):
        answer = await envd.http.post(path, content=nested, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 415), (path, answer.text)
