"""Two hundred creates in one moment, on a pool of four: each is answered, no sandbox is given twice, all of it goes.

A box makes a few sandboxes at a time, and who waited too long is told to come again: 429 with ``Retry-After``. How many
of the two hundred are made at the first try depends on the machine, so that is not asserted; what holds on every
machine is. The manager keeps its connections to the API server for a minute, so those are told from the rest.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from boxes import RunningBox
from footprint import pss
from waiting import eventually

pytestmark = [pytest.mark.box, pytest.mark.timeout(300)]

CROWD = 200
TRIED = 12
"""Sandboxes that are used; each is a few requests."""
PATIENCE = 200.0
"""Seconds a request may take at most: with all of them in line."""
MIB = 1 << 20


async def crowd(box: RunningBox) -> list[httpx.Response]:
    """The answers to all creates, each on a connection of its own; what was made is used and killed."""
    headers = {"X-API-Key": box.env["E2B_API_KEY"]}
    async with httpx.AsyncClient(
        base_url=box.env["E2B_API_URL"],
        headers=headers,
        trust_env=False,
        timeout=PATIENCE,
        limits=httpx.Limits(max_connections=CROWD),
    ) as api:
        body = {"templateID": "code-interpreter", "timeout": 280, "metadata": {"crowd": "1"}}
        answers = await asyncio.gather(*(api.post("/v2/sandboxes", json=body) for _ in range(CROWD)))
        made = [answer.json() for answer in answers if answer.status_code == 201]
        await asyncio.gather(*(use(box, sandbox) for sandbox in made[:: max(1, len(made) // TRIED)]))
        gone = await asyncio.gather(*(api.delete(f"/sandboxes/{sandbox['sandboxID']}") for sandbox in made))
        assert {answer.status_code for answer in gone} == {204}
        listed = await api.get("/v2/sandboxes", params={"metadata": "crowd=1"})
        assert listed.json() == []
    return answers


async def use(box: RunningBox, sandbox: dict[str, Any]) -> None:
    """It is the sandbox of this token alone, new, and keeps what is written into it."""
    headers = {
        "E2b-Sandbox-Id": sandbox["sandboxID"],
        "E2b-Sandbox-Port": "49983",
        "X-Access-Token": sandbox["envdAccessToken"],
        "Content-Type": "application/octet-stream",
    }
    url = f"{box.env['E2B_SANDBOX_URL']}/files?path=mine"
    async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=PATIENCE) as own:
        missing = await own.get(url)
        assert missing.status_code == 404, missing.text
        written = await own.post(url, content=sandbox["sandboxID"].encode())
        assert written.status_code == 200, written.text
        assert (await own.get(url)).text == sandbox["sandboxID"]


def other_descriptors(pid: int, api_server: int) -> int:
    """Open descriptors of a process that are no connections to that port."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    kept = {f"socket:[{fields[9]}]" for fields in lines if fields[2].endswith(f":{api_server:04X}")}
    return sum(link not in kept for link in links)


def test_two_hundred_creates_at_once(box: RunningBox) -> None:
    """Each is 201 or a clear "come again", ids are unique, each sandbox is its creator's alone, nothing is left."""
    manager, pods = box.role_pid("manager"), box.data_dir / "node" / "pods"
    address = re.search(r'"?server"?: *"?https?://[^:"]+:(\d+)', (box.data_dir / "kubeconfig").read_text())
    assert address is not None
    api_server = int(address[1])
    eventually(lambda: len(list(pods.iterdir())) >= 4, 120)
    before, memory, kept = other_descriptors(manager, api_server), pss(manager), len(list(pods.iterdir()))
    answers = asyncio.run(crowd(box))
    made = [answer.json()["sandboxID"] for answer in answers if answer.status_code == 201]
    assert made
    assert len(made) == len(set(made))
    for answer in answers:
        if answer.status_code != 201:
            assert answer.status_code == 429, answer.text
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["code"] == 429
            assert answer.json()["message"]

    def pods_gone() -> bool:
        """The node has no more pods than before."""
        return len(list(pods.iterdir())) <= kept

    def descriptors_back() -> bool:
        """The manager has as many descriptors as before, but for those of a few requests under way."""
        return other_descriptors(manager, api_server) <= before + 12

    eventually(pods_gone, 120)
    eventually(descriptors_back, 120)
    assert pss(manager) - memory < 64 * MIB
    assert box.role_pid("manager") == manager
