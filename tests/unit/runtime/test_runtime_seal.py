"""A runtime that is started again in the pod of a claimed sandbox is closed until its owner's /init."""

from __future__ import annotations

import stat

from appliance.runtime import seal
from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.state import RuntimeState


async def test_a_sealed_runtime_lets_only_the_owners_init_in(envd):
    """503 for everything but health, 401 for an init with another token; the right one opens it, with that token."""
    envd.state.sealed = seal.digest("own")
    assert (await envd.http.get("/health")).status_code == 204
    for headers in ({}, {"X-Access-Token": "own"}):
        answer = await envd.http.get("/envs", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, 503)
        listing = await envd.http.post("/process.Process/List", json={}, headers=headers)
        assert listing.status_code == 503
    for body in ({}, {"accessToken": "other"}, {"accessToken": seal.digest("own")}):
        assert (await envd.http.post("/init", json=body)).status_code == 401
    assert (await envd.http.post("/init", json={"envVars": {"A": "1"}}, headers={"X-Access-Token": "own"})).is_success
    assert (await envd.http.get("/envs")).status_code == 401
    assert (await envd.http.get("/envs", headers={"X-Access-Token": "own"})).json()["A"] == "1"


def test_the_digest_outlives_the_process_and_only_root_reads_it(tmp_path):
    """Written by /init, found by the next runtime, replaced by the next token; a link in its place is not followed."""
    file = seal.place({"AGENT_RUNTIME_WORKSPACE": str(tmp_path)})
    assert file is not None and seal.read(file) is None
    (tmp_path / "token.sha256.new").symlink_to(tmp_path / "elsewhere")
    for token in ("one", "two"):
        seal.write(file, token)
        assert seal.read(file) == seal.digest(token)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not (tmp_path / "elsewhere").exists()
    state = RuntimeState(RuntimeSettings())
    state.sealed = seal.read(file)
    assert state.token_matches("two") and not state.token_matches("one") and not state.token_matches(None)


def test_without_a_workspace_nothing_is_kept(tmp_path):
    """No workspace, no file; a workspace that is not there is said in the log and harmless."""
    assert seal.place({}) is None and seal.read(None) is None
    seal.write(None, "t")
    seal.write(tmp_path / "missing" / "token", "t")
    assert seal.read(tmp_path / "missing" / "token") is None
