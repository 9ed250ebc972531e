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
        self.code = 143

    async def spawn(self, spawn: Spawn, stdout: int, stderr: int) -> ProcessId:
        """The container's process."""
        child = subprocess.Popen(["sleep", "600"])
        self.children.append(child)
        process = ProcessId.of(child.pid)
        end = Exited(spawn.pod, spawn.container, process.pid, process.start, self.code, 1.0)
        Path(spawn.exit_file).write_bytes(msgspec.json.encode(end))  # read once it has ended, which it does by a signal
        return process


class Box:
    """Agents of one data directory, one after the other."""

    def __init__(self, directory: Path, template: Template) -> None:
        self._directory, self._template = directory, template

    def agent(self, policy: str = "Always") -> ContainerRunner:
        """The runner of the pod's container in a new agent, which finds what the one before wrote."""
        pod = {**POD, "spec": {**POD["spec"], "restartPolicy": policy}}
        records = Records(self._directory / "pods")
        record = records.load().get("u") or Record("u", "n", "p", 0, 1.0)
        records.write(record)
        library = images.Library(self._directory / "images")
        isolation = Isolation(NodeSettings(), Path("/"), None, None, False, library)
        template = cast(TemplateClient, self._template)
        means = Means(isolation, template, records, asyncio.Semaphore(1), "", Executor(template, False), None)
        spec = PodSpec.parse(pod)
        resolver = Resolver(cast(ApiClient, None), pod, spec, self._directory / "v", self._directory / "claims")
        state = ContainerState()
        return ContainerRunner(
            means, spec, spec.containers[0], record, resolver, state, lambda: None, lambda: False
        )  # fmt: skip


@pytest.fixture
async def template() -> AsyncIterator[Template]:
    """What has started nothing yet."""
    template = Template()
    yield template
    for child in template.children:
        child.kill()
        child.wait()


@pytest.fixture
async def box(tmp_path: Path, template: Template) -> Box:
    """A box without pods."""
    return Box(tmp_path, template)


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


async def end(runner: ContainerRunner) -> None:
    """The end of the container's process by itself."""
    assert runner.process is not None
    runner.process.kill(signal.SIGKILL)


@pytest.mark.parametrize("seen", [True, False], ids=["seen by its agent", "while no agent looked"])
@pytest.mark.parametrize(("policy", "code"), [("Never", 0), ("Never", 3), ("OnFailure", 0)])
async def test_a_container_that_ended_for_good_is_not_run_by_the_next_agent(
    box: Box, template: Template, policy: str, code: int, seen: bool
) -> None:
    """Whoever saw its end, or nobody: the agents after that report the same end and start nothing."""
    template.code = code
    first = box.agent(policy)
    task = await running(first)
    if seen:
        await end(first)
        async with asyncio.timeout(60):
            await task
    else:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await end(first)
        template.children[0].wait()
    for _ in range(2):
        later = box.agent(policy)
        async with asyncio.timeout(60):
            await later.run()
        status: Any = later.state.status(later.container)
        terminated = status["state"]["terminated"]
        assert (terminated["exitCode"], terminated["reason"]) == (code, "Error" if code else "Completed")
        assert status["restartCount"] == 0
    assert len(template.children) == 1


async def test_a_failure_that_nobody_saw_is_started_again_where_the_policy_says_so(
    box: Box, template: Template
) -> None:
    """``OnFailure`` and a failure: the next agent starts it and counts it."""
    first = box.agent("OnFailure")
    task = await running(first)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await end(first)
    template.children[0].wait()
    second = box.agent("OnFailure")
    await stop(second, await running(second))
    assert (second.state.restarts, len(template.children)) == (1, 2)


async def test_what_the_box_ended_with_itself_runs_again(box: Box, template: Template) -> None:
    """Whatever the policy: a stop of the box is no end of the container, but one before that stays one."""
    first = box.agent("Never")
    task = await running(first)
    first.record.clean_stop = True
    await stop(first, task)
    second = box.agent("Never")
    task = await running(second)
    assert len(template.children) == 2
    second.record.clean_stop = False
    await end(second)
    async with asyncio.timeout(60):
        await task
    second.record.clean_stop = True
    second.means.records.write(second.record)
    third = box.agent("Never")
    async with asyncio.timeout(60):
        await third.run()
    assert third.state.ended is not None
    assert len(template.children) == 2
