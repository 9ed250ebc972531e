"""Upgrades by policy: hooks, the new pod, failures, what a controller that starts anew does."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import pytest

from appliance.api import labels
from appliance.controller import hooks

PODS = "/api/v1/namespaces/default/pods"


def template(image="one:1"):
    return {"spec": {"containers": [{"name": "sandbox", "image": image}]}}


def condition(cluster, kind, name="one"):
    for item in cluster.get("sandboxes", name).get("status", {}).get("conditions", []):
        if item["type"] == kind:
            return item["status"], item["reason"], item["message"]
    return "", "", ""


def pod(cluster, name="one"):
    return cluster.server.objects[f"{PODS}/{name}"]


@pytest.fixture
async def executed(monkeypatch) -> AsyncIterator[list[list[str]]]:
    """Commands that hooks ran, in order; one that holds ``fail`` fails."""
    ran: list[list[str]] = []

    async def execute(ip, port, token, command, limit):
        ran.append(command)
        return "it broke" if "fail" in command else ""

    monkeypatch.setattr(hooks, "execute", execute)
    yield ran


async def begin(cluster, **spec):
    cluster.apply("sandboxes", "one", {"template": template(), "upgradePolicy": {"type": "Recreate"}, **spec})
    await cluster.until(lambda: condition(cluster, "Ready")[0] == "True")
    return pod(cluster)["metadata"]["uid"]


def life(before="save", after="load"):
    return {f"{when}Upgrade": {"exec": {"command": [what]}} for when, what in (("pre", before), ("post", after))}


async def test_a_new_pod_between_the_hooks(cluster, executed):
    """preUpgrade, another pod with the new template, postUpgrade, Succeeded; again for the next template."""
    uids = [await begin(cluster, lifecycle=life())]
    for image in ("two:1", "three:1"):
        cluster.patch("sandboxes", "one", {"spec": {"template": template(image)}})
        await cluster.until(lambda image=image: pod(cluster)["spec"]["containers"][0]["image"] == image)
        await cluster.until(lambda: condition(cluster, "Upgrading")[:2] == ("True", "Succeeded"))
        assert condition(cluster, "Ready")[0] == "True"
        uids.append(pod(cluster)["metadata"]["uid"])
    assert len(set(uids)) == 3 and executed == [["save"], ["load"]] * 2


async def test_a_failed_pre_upgrade_changes_nothing(cluster, executed):
    """The pod stays and is Ready, the words are the hook's; other hooks are tried again, the same ones are not."""
    uid = await begin(cluster, lifecycle=life(before="fail"))
    cluster.patch("sandboxes", "one", {"spec": {"template": template("two:1")}})
    await cluster.until(lambda: condition(cluster, "Upgrading")[1] == "PreUpgradeFailed")
    assert "it broke" in condition(cluster, "Upgrading")[2]
    await cluster.until(lambda: condition(cluster, "Ready")[0] == "True")
    await cluster.settle(30)
    assert pod(cluster)["metadata"]["uid"] == uid and executed == [["fail"]]
    cluster.patch("sandboxes", "one", {"spec": {"lifecycle": life()}})
    await cluster.until(lambda: condition(cluster, "Upgrading")[:2] == ("True", "Succeeded"))
    assert pod(cluster)["metadata"]["uid"] != uid


async def test_a_failed_post_upgrade_goes_on_from_there(cluster, executed):
    """The new pod is kept; once the hook is mended only postUpgrade runs again."""
    await begin(cluster, lifecycle=life(after="fail"))
    cluster.patch("sandboxes", "one", {"spec": {"template": template("two:1")}})
    await cluster.until(lambda: condition(cluster, "Upgrading")[1] == "PostUpgradeFailed")
    uid = pod(cluster)["metadata"]["uid"]
    cluster.patch("sandboxes", "one", {"spec": {"lifecycle": life(before="not again")}})
    await cluster.until(lambda: condition(cluster, "Upgrading")[:2] == ("True", "Succeeded"))
    assert pod(cluster)["metadata"]["uid"] == uid and executed == [["save"], ["fail"], ["load"]]


async def test_a_pod_that_does_not_start_is_told_and_replaced(cluster, executed):
    """UpgradePodFailed carries the pull error; the old image brings the sandbox back."""
    await begin(cluster)
    cluster.node_works = False
    cluster.patch("sandboxes", "one", {"spec": {"template": template("bad:1")}})
    await cluster.until(lambda: pod(cluster)["spec"]["containers"][0]["image"] == "bad:1")
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    cluster.pod_status("one", phase="Pending", containerStatuses=[{"name": "sandbox", "state": waiting}])
    await cluster.until(lambda: condition(cluster, "Upgrading")[1] == "UpgradePodFailed")
    assert "no such image" in condition(cluster, "Upgrading")[2]
    cluster.node_works = True
    cluster.patch("sandboxes", "one", {"spec": {"template": template()}})
    await cluster.until(lambda: condition(cluster, "Upgrading")[:2] == ("True", "Succeeded"))


async def test_a_controller_that_dies_in_between(cluster, executed):
    """Another one goes on where the status says: a new pod is made, and the sandbox is not Failed."""
    await begin(cluster)
    cluster.node_works = False
    cluster.patch("sandboxes", "one", {"spec": {"template": template("two:1")}})
    await cluster.until(lambda: condition(cluster, "Upgrading")[1] == "UpgradePod")
    await cluster.stop()
    cluster.server.objects.pop(f"{PODS}/one", None)
    cluster.renew()
    cluster.node_works = True
    await cluster.start()
    await cluster.until(lambda: condition(cluster, "Upgrading")[:2] == ("True", "Succeeded"))


async def test_checkpoints_are_refused_in_words(cluster, executed):
    """CheckpointRestore changes nothing and says what is missing."""
    uid = await begin(cluster, upgradePolicy={"type": "CheckpointRestore"})
    cluster.patch("sandboxes", "one", {"spec": {"template": template("two:1")}})
    await cluster.until(lambda: condition(cluster, "Upgrading")[1] == "NotSupported")
    assert "spec.upgradePolicy.type" in condition(cluster, "Upgrading")[2]
    assert pod(cluster)["metadata"]["uid"] == uid


def frame(message, flags=0):
    data = json.dumps(message).encode()
    return bytes((flags,)) + len(data).to_bytes(4, "big") + data


def sent(message):
    return frame(message, 2 if "error" in message else 0)


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([{"event": {"end": {"exited": True}}}], ""),
        (
            [
                {"event": {"data": {"stderr": base64.b64encode(b"disk full\n").decode()}}},
                {"event": {"end": {"exitCode": 3}}},
            ],
            "save ended with exit code 3: disk full",
        ),
        (
            [{"event": {"start": {"pid": 7}}}, {"error": {"code": "deadline_exceeded"}}],
            "the hook did not end within 9 s",
        ),
        ([{"error": {"code": "internal", "message": "no such file"}}], "the runtime refused the hook: no such file"),
    ],
)
async def test_a_hook_is_run_by_the_runtime(events, problem):
    """The request names command, user and token; the answer's frames become the words of the condition."""
    seen = b""

    async def serve(reader, writer):
        nonlocal seen
        seen = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"".join(map(sent, events)) + frame({}, 2))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await hooks.execute("127.0.0.1", port, "secret", ["save"], 9) == problem
    assert b"Connect-Timeout-Ms: 9000" in seen
    assert b"X-Access-Token: secret" in seen and b"/process.Process/Start" in seen
    assert labels.GROUP.encode() not in seen
