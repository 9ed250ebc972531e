"""Process trees that are stopped and continued, and the accounts of pods without a root of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import eventually

from appliance.embedded.node import unisolated
from appliance.embedded.node.process_ids import ProcessId
from appliance.runtime.users import Users


@pytest.fixture
def family() -> Iterator[ProcessId]:
    """A shell with a child and a grandchild."""
    script = "sh -c 'sleep 600 & echo ready; wait' & wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "ready\n"
        root = ProcessId.of(shell.pid)
        members = unisolated.tree(root)
        yield root
        for member in reversed(members):
            member.kill(9)


def states(root: ProcessId) -> set[str]:
    return {
        Path(f"/proc/{member.pid}/stat").read_text().rpartition(")")[2].split()[0] for member in unisolated.tree(root)
    }


def test_a_whole_tree_is_stopped_and_continued(family: ProcessId) -> None:
    """Every descendant is stopped, nobody else; continuing wakes all; both may be repeated."""
    assert len(unisolated.tree(family)) == 3
    for _ in range(2):
        unisolated.freeze(family, True)
        eventually(lambda: states(family) == {"T"}, 60)  # a signal is sent, then taken: on a busy machine later
    for _ in range(2):
        unisolated.freeze(family, False)
        eventually(lambda: "T" not in states(family), 60)


def test_a_gone_process_has_no_tree(family: ProcessId) -> None:
    """A pid that is another process by now is never touched."""
    assert unisolated.tree(ProcessId(family.pid, family.start + 1)) == []


def test_a_pod_gets_a_home_of_its_own(tmp_path: Path) -> None:
    """The agent's user and ``user`` both live in the pod's own directory."""
    settings = unisolated.account(tmp_path)
    users = Users(Path(settings["etc"]))
    for name in (settings["default_user"], "user"):
        account = users.get(name)
        assert (account.uid, account.home) == (os.geteuid(), settings["default_workdir"])
    assert Path(settings["default_workdir"]).is_dir()


def test_a_user_without_a_name_has_an_account_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that no passwd knows, as in containers started with --user: its pods' user is called ``user``."""

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 65533")

    monkeypatch.setattr(unisolated.getpass, "getuser", unknown)
    assert unisolated.account(tmp_path)["default_user"] == "user"
    assert (tmp_path / "etc/passwd").read_text() == f"user:x:{os.geteuid()}:{os.getegid()}::{tmp_path}/home:/bin/bash\n"
