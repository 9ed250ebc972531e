"""A container's restarts are counted over the ends of agents: real processes, records on disk, a made-up template."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from appliance.config import NodeSettings
from appliance.embedded.node import images
from appliance.embedded.node.apiclient import ApiClient
from appliance.embedded.node.containers import ContainerRunner, Means
from appliance.embedded.node.environment import Resolver
from appliance.embedded.node.execution import Executor
from appliance.embedded.node.isolation import Isolation
from appliance.embedded.node.podspec import PodSpec
from appliance.embedded.node.podstatus import ContainerState
from appliance.embedded.node.process_ids import ProcessId
from appliance.embedded.node.records import Record, Records
from appliance.embedded.node.request import Exited, Spawn
from appliance.embedded.node.templateclient import TemplateClient

POD = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [{"name": "c"}]}}


class Template:
    """Starts a program that sleeps for every container."""

    def __init__(self) -> None:
        self.children: list[subprocess.Popen[bytes]] = []

    async def spawn(self, spawn: Spawn, stdout: int, stderr: int) -> ProcessId:
        """The container's process."""
        child = subprocess.Popen(["sleep", "600"])
        self.children.append(child)
        process = ProcessId.of(child.pid)
        end = Exited(spawn.pod, spawn.container, process.pid, process.start, 143, 1.0)
        Path(spawn.exit_file).write_bytes(msgspec.json.encode(end))  # read once it has ended, which it does by a signal
        return process


class Box:
    """Agents of one data directory, one after the other."""

    def __init__(self, directory: Path, template: Template) -> None:
        self._directory, self._template = directory, template

    def agent(self) -> ContainerRunner:
        """The runner of the pod's container in a new agent, which finds what the one before wrote."""
        records = Records(self._directory / "pods")
        record = records.load().get("u") or Record("u", "n", "p", 0, 1.0)
        records.write(record)
        library = images.Library(self._directory / "images")
        isolation = Isolation(NodeSettings(), Path("/"), None, None, False, library)
        template = cast(TemplateClient, self._template)
        means = Means(isolation, template, records, asyncio.Semaphore(1), "", Executor(template, False), None)
        spec = PodSpec.parse(POD)
        resolver = Resolver(cast(ApiClient, None), POD, spec, self._directory / "v", self._directory / "claims")
        state = ContainerState()
        return ContainerRunner(
            means, spec, spec.containers[0], record, resolver, state, lambda: None, lambda: False
        )  # fmt: skip


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    """A box without pods."""
    template = Template()
    yield Box(tmp_path, template)
    for child in template.children:
        child.kill()
        child.wait()


async def running(runner: ContainerRunner) -> asyncio.Task[None]:
    """The runner's task once its container runs."""
    task = asyncio.create_task(runner.run())
    async with asyncio.timeout(60):
        await runner.started.wait()
    return task


async def stop(runner: ContainerRunner, task: asyncio.Task[None]) -> None:
    """The end of the container with its agent, as the node stops."""
    runner.stopping = True
    await runner.kill(60.0)
    async with asyncio.timeout(60):
        await task


async def test_every_start_of_the_box_counts(box: Box) -> None:
    """Stopped with the box and started again by the next two: one restart, then two, each with its end before it."""
    for count in range(3):
        runner = box.agent()
        task = await running(runner)
        status: Any = runner.state.status(runner.container)
        assert status["restartCount"] == count
        assert ("terminated" in status["lastState"]) == (count > 0)
        await stop(runner, task)


async def test_an_agent_that_died_between_end_and_start_leaves_the_count_to_the_next(box: Box) -> None:
    """The process ended, its agent wrote that down and died: the start by the next agent counts."""
    first = box.agent()
    task = await running(first)
    first.stopping = True  # so that the end is written and nothing is started
    assert first.process is not None
    first.process.kill(signal.SIGKILL)
    async with asyncio.timeout(60):
        await task
    second = box.agent()
    await stop(second, await running(second))
    assert second.state.restarts == 1


async def test_an_adopted_process_is_no_restart(box: Box) -> None:
    """An agent that ends without its sandboxes: the next one finds the same process, and has nothing to count."""
    first = box.agent()
    task = await running(first)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    second = box.agent()
    other = await running(second)
    assert (second.process, second.state.restarts) == (first.process, 0)
    await stop(second, other)


async def test_a_halted_pods_boot_is_counted_once(box: Box) -> None:
    """A halt counts the run to come; the agent that boots the pod does not count it again."""
    first = box.agent()
    task = await running(first)
    first.halting = True
    await stop(first, task)
    first.forget("Halted", "")
    second = box.agent()
    await stop(second, await running(second))
    assert second.state.restarts == 1
