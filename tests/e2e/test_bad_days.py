"""Processes killed at bad moments, stops and second starts: what was acknowledged stays true, nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from boxes import RunningBox
from e2b import CommandExitException, SandboxException
from e2b_code_interpreter import Sandbox
from waiting import eventually

pytestmark = [pytest.mark.box, pytest.mark.timeout(300)]


def lines(*command: str) -> list[str]:
    """What a command prints, by line."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def slot_of(data_dir: Path) -> str:
    """The number in the names of everything the running box of ``data_dir`` makes; its bridge carries the directory."""
    bridges = [line for line in lines("ip", "-o", "link") if line.endswith(f"alias {data_dir}")]
    assert bridges, "the box has no bridge"
    return bridges[0].split(":")[1].strip().removeprefix("appliance")


def traces(data_dir: Path, slot: str) -> dict[str, list[str]]:
    """Everything of the box of ``data_dir`` that is on the machine, by kind; kinds without any are left out."""
    links = lines("ip", "-o", "link")
    names = [line.split(":")[1].strip().split("@")[0] for line in links]
    found = {
        "links": [name for name in names if name == f"appliance{slot}" or name.startswith(f"ap{slot}.")],
        "tables": [line for line in lines("nft", "list", "tables") if line.endswith(f"appliance{slot}")],
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/appliance{slot}")],
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if str(data_dir) in line],
        "loops": [line for line in lines("losetup", "-a") if str(data_dir) in line],
        "processes": [line for line in lines("ps", "axwwo", "args") if str(data_dir) in line],
        "sockets": [str(path) for path in (data_dir / "run").glob("*.sock")],
    }
    if any(f": appliance{slot}:" in line and not line.endswith(f"alias {data_dir}") for line in links):
        for kind in ("links", "tables", "cgroups"):  # another box took the number in the meantime
            found.pop(kind)
    return {kind: things for kind, things in found.items() if things}


def use(box: RunningBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the SDK of this process at a box."""
    for name, value in box.env.items():
        monkeypatch.setenv(name, value)


def pause_mode(box: RunningBox, sandbox: Sandbox) -> str | None:
    """What is kept of a paused sandbox, as the API says."""
    headers = {"X-API-Key": box.env["E2B_API_KEY"]}
    answer = httpx.get(f"{box.env['E2B_API_URL']}/sandboxes/{sandbox.sandbox_id}", headers=headers, trust_env=False)
    found: str | None = answer.json().get("pauseMode")
    return found


def answers(sandbox: Sandbox) -> bool:
    """True once a command in the sandbox works (again)."""
    try:
        return sandbox.commands.run("echo yes", request_timeout=5).stdout == "yes\n"
    except (SandboxException, OSError):
        return False


def test_stop_leaves_nothing_and_a_second_start_finds_the_state(
    start_box: Callable[..., RunningBox], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After SIGTERM the machine is as before; the next start has the same key, pool and claimed sandboxes.

    One that was paused with its memory says that only its files are left, and boots from them.
    """
    first = start_box(tmp_path / "data")
    use(first, monkeypatch)
    kept = Sandbox.create(template="code-interpreter", timeout=600)
    kept.files.write("/home/user/note", "still here")
    paused = [Sandbox.create(template="code-interpreter", timeout=600) for _ in range(2)]
    for sandbox, mode in zip(paused, ("full", "filesystem"), strict=True):
        sandbox.files.write("/home/user/note", mode)
        assert sandbox.pause(mode=mode)  # type: ignore[arg-type]  # one of its two words
    assert [pause_mode(first, one) for one in paused] == ["full", "filesystem"]
    key = first.env["E2B_API_KEY"]
    slot = slot_of(first.data_dir)
    assert "processes" in traces(first.data_dir, slot)
    assert first.stop() == 0
    assert traces(first.data_dir, slot) == {}
    second = start_box(tmp_path / "data")
    assert second.env["E2B_API_KEY"] == key
    use(second, monkeypatch)
    again = Sandbox.connect(kept.sandbox_id)
    eventually(lambda: answers(again))
    assert again.files.read("/home/user/note") == "still here"
    eventually(lambda: [pause_mode(second, one) for one in paused] == ["filesystem", "filesystem"])
    assert [Sandbox.connect(one.sandbox_id).files.read("/home/user/note") for one in paused] == ["full", "filesystem"]
    slot = slot_of(second.data_dir)
    assert second.stop() == 0
    assert traces(second.data_dir, slot) == {}


def test_kill_of_the_supervisor_is_survived(
    start_box: Callable[..., RunningBox], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """kill -9 of the supervisor takes the roles along; the next start adopts the sandboxes, its stop leaves nothing."""
    first = start_box(tmp_path / "data")
    use(first, monkeypatch)
    kept = Sandbox.create(template="code-interpreter", timeout=600)
    kept.run_code("a = 41")
    first.process.kill()
    first.process.wait()
    second = start_box(tmp_path / "data")
    use(second, monkeypatch)
    again = Sandbox.connect(kept.sandbox_id)
    eventually(lambda: answers(again))
    assert again.run_code("a + 1").text == "42"
    slot = slot_of(second.data_dir)
    assert second.stop() == 0
    assert traces(second.data_dir, slot) == {}


def test_a_second_supervisor_is_refused_with_the_first_ones_pid(
    box: RunningBox,
) -> None:
    """On one data directory the second start exits 1 and names the pid that holds it."""
    again = subprocess.run(box.arguments, capture_output=True, text=True, timeout=30, check=False,
                           env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    assert again.returncode == 1
    assert f"pid {box.process.pid}" in again.stderr


@pytest.mark.parametrize("role", ["controller", "manager", "node", "apiserver"])
def test_a_killed_role_comes_back_and_nothing_is_lost(
    start_box: Callable[..., RunningBox], monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """kill -9 of one role: claimed sandboxes keep their memory, new ones can be made, the pool refills."""
    box = start_box(pool=2)
    use(box, monkeypatch)
    kept = Sandbox.create(template="code-interpreter", timeout=600)
    kept.run_code("a = 41")
    pid = box.role_pid(role)
    os.kill(pid, signal.SIGKILL)
    eventually(_made, timeout=60)
    eventually(lambda: answers(kept))
    assert kept.run_code("a + 1").text == "42"
    assert box.role_pid(role, other_than=pid) != pid
    slot = slot_of(box.data_dir)
    assert box.stop() == 0
    assert traces(box.data_dir, slot) == {}


def test_a_stop_while_the_node_is_down_still_leaves_nothing(start_box: Callable[..., RunningBox]) -> None:
    """The node is killed and the box stopped at once: the sandboxes and what was made for them go all the same."""
    box = start_box(pool=2)
    slot = slot_of(box.data_dir)
    os.kill(box.role_pid("node"), signal.SIGKILL)
    assert box.stop() == 0
    assert traces(box.data_dir, slot) == {}


def _made() -> bool:
    try:
        with Sandbox.create(template="code-interpreter", timeout=60, request_timeout=10) as sandbox:
            return sandbox.run_code("1 + 1").text == "2"
    except Exception:  # the API is away while its process restarts: any transport error may surface
        return False


def test_a_killed_kernel_is_said_and_replaced(box: RunningBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """run_code in which the kernel dies reports an error by name, and the next run_code works."""
    use(box, monkeypatch)
    with Sandbox.create(template="code-interpreter", timeout=120) as sandbox:
        died = sandbox.run_code("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        assert died.error is not None
        eventually(lambda: sandbox.run_code("1 + 1").text == "2")


def test_a_killed_runtime_comes_back_with_its_kernel(box: RunningBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 of the runtime's server inside a sandbox: token, variable and command are there afterwards."""
    use(box, monkeypatch)
    with Sandbox.create(template="code-interpreter", timeout=120) as sandbox:
        sandbox.run_code("a = 41")
        worker = sandbox.commands.run("while read line; do echo $line; done; exit 3", background=True, stdin=True)
        aged = f"until [ $(ps -o etimes= -p {worker.pid}) -ge 1 ]; do sleep 0.1; done"  # younger ones are not kept
        pid = sandbox.commands.run(f"{aged}; ps -o pid= --ppid 1 -U root | head -1").stdout.strip()
        assert pid.isdigit()
        with contextlib.suppress(SandboxException):  # the connection dies with the server
            sandbox.commands.run(f"sudo kill -9 {pid}", timeout=5)
        eventually(lambda: answers(sandbox))
        assert sandbox.run_code("a + 1").text == "42"
        assert worker.pid in [process.pid for process in sandbox.commands.list()]
        handle = sandbox.commands.connect(worker.pid)
        sandbox.commands.send_stdin(worker.pid, "still here\n")
        sandbox.commands.close_stdin(worker.pid)
        with pytest.raises(CommandExitException) as end:
            handle.wait()
        assert (end.value.stdout, end.value.exit_code) == ("still here\n", 3)
