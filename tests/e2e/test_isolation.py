"""What a sandbox can see and do, tried from inside it through the SDK."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from boxes import RunningBox
from e2b_code_interpreter import Sandbox

pytestmark = pytest.mark.box


@pytest.fixture
def sandbox(box: RunningBox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A claimed sandbox of the session's box."""
    for name, value in box.env.items():
        monkeypatch.setenv(name, value)
    with Sandbox.create(template="code-interpreter", timeout=300) as made:
        yield made


def test_nothing_of_the_box_is_visible(sandbox: Sandbox) -> None:
    """No home, no /root, no /work, no /var data of the box, no other processes, no box sockets."""
    seen = sandbox.commands.run(
        "ls -A /home /root /work /mnt 2>/dev/null; ls /var/lib/appliance 2>/dev/null; ps ax | wc -l"
    )
    assert "user" in seen.stdout
    assert "main" not in seen.stdout
    assert "state.db" not in seen.stdout
    assert int(seen.stdout.split()[-1]) < 20
    assert sandbox.commands.run("id -un").stdout.strip() == "user"


def test_root_inside_is_nobody_outside(sandbox: Sandbox) -> None:
    """sudo gives root inside; its host uid is far from 0 and it cannot touch the box's kernel settings."""
    assert sandbox.commands.run("sudo id -u").stdout.strip() == "0"
    host_uid = int(sandbox.commands.run("awk 'NR==1{print $2}' /proc/self/uid_map").stdout)
    assert host_uid >= 100_000
    denied = sandbox.commands.run(
        "sudo sh -c 'echo 1 > /proc/sys/kernel/panic' 2>/dev/null && echo wrote || echo denied"
    )
    assert denied.stdout.strip() == "denied"


def test_a_fork_bomb_stays_inside(sandbox: Sandbox, box: RunningBox) -> None:
    """The process limit stops it; another sandbox can be made and used meanwhile."""
    sandbox.commands.run("bomb() { bomb | bomb & }; (bomb) >/dev/null 2>&1 &", timeout=10)
    with Sandbox.create(template="code-interpreter", timeout=60) as other:
        assert other.commands.run("echo fine").stdout == "fine\n"


def test_a_memory_bomb_stays_inside(sandbox: Sandbox) -> None:
    """Allocating more than the limit kills the process, not the sandbox and not the box."""
    done = sandbox.commands.run("python3 -c \"x = b'x' * (3 << 30)\"; echo code $?", timeout=60)
    assert "code 0" not in done.stdout
    assert sandbox.commands.run("echo alive").stdout == "alive\n"
    assert os.path.exists("/proc/self")


def test_a_full_disk_stays_inside(sandbox: Sandbox) -> None:
    """Writing without end meets "No space left on device" at the sandbox's own bound."""
    done = sandbox.commands.run(
        "fallocate -l 200G /home/user/big 2>&1; dd if=/dev/zero of=/home/user/more bs=1M count=64 2>&1 | tail -1; "
        "rm -f /home/user/big /home/user/more; echo ok > /home/user/after && cat /home/user/after",
        timeout=60,
    )
    assert "No space left" in done.stdout
    assert done.stdout.endswith("ok\n")


def test_sandboxes_do_not_reach_each_other_or_the_box(sandbox: Sandbox, box: RunningBox) -> None:
    """A listener in one sandbox and the box's API are unreachable from another sandbox."""
    sandbox.commands.run("python3 -m http.server 8000 >/dev/null 2>&1 &", background=False)
    address = sandbox.commands.run("hostname -I").stdout.split()[0]
    port = box.env["E2B_API_URL"].rsplit(":", 1)[1]
    with Sandbox.create(template="code-interpreter", timeout=60) as other:
        probe = f"curl -s -m 2 -o /dev/null http://{address}:8000/ && echo reached || echo blocked"
        assert other.commands.run(probe).stdout.strip() == "blocked"
        gateway = other.commands.run("ip route | awk '/default/{print $3}'").stdout.strip() or "10.213.0.1"
        probe = f"curl -s -m 2 -o /dev/null http://{gateway}:{port}/health && echo reached || echo blocked"
        assert other.commands.run(probe).stdout.strip() == "blocked"


def test_two_sandboxes_share_no_files(sandbox: Sandbox) -> None:
    """What one writes, to /tmp, home or /usr, the other does not see."""
    sandbox.commands.run("touch /tmp/mine /home/user/mine; sudo touch /usr/local/mine")
    with Sandbox.create(template="code-interpreter", timeout=60) as other:
        found = other.commands.run("ls /tmp/mine /home/user/mine /usr/local/mine 2>/dev/null; true").stdout
        assert found == ""
