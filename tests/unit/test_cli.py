"""The command line."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.commands import roles


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--rol=all"], "did you mean --role?"),
        (["--role=all", "--lisen", "127.0.0.1:1"], "did you mean --listen?"),
        (["--role=al"], "did you mean all?"),
        (["stats"], "did you mean status?"),
        (["status", "--kubeconfg", "x"], "did you mean --kubeconfig?"),
    ],
)
def test_a_wrong_word_is_refused_with_the_nearest_match(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown flags, roles and commands exit 2 and name what was probably meant."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert hint in capsys.readouterr().err


def test_listen_must_be_host_and_port(capsys: pytest.CaptureFixture[str]) -> None:
    """A malformed address is one line on standard error that names the flag."""
    assert cli.main(["--role=all", "--listen", "8080", "--data-dir", "/nonexistent/x"]) == 1
    assert "--listen: expected HOST:PORT" in capsys.readouterr().err


def test_tls_needs_both_files(capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate without its key is refused before anything starts."""
    assert cli.main(["--role=manager", "--tls-cert", "x.pem"]) == 1
    assert "--tls-cert and --tls-key belong together" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["env", "kubeconfig", "status"])
def test_commands_without_a_box_say_how_to_start_one(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On an empty data directory the user reads which directory was looked at and what to run."""
    assert cli.main([command, "--data-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert str(tmp_path) in said
    assert "--role=all" in said


def test_a_role_and_a_command_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Both at once is a usage error, not a silent choice."""
    with pytest.raises(SystemExit):
        cli.main(["--role=all", "status"])
    assert "exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize("role", [name for name in roles.RUNNERS if name not in ("tui", "all", "node")])
def test_a_role_runs_with_the_collector_on(role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The single file starts with garbage collection off; once a role is imported it is on again."""
    states: list[bool] = []

    def serve(coroutine: Coroutine[Any, Any, None]) -> int:
        states.append(gc.isenabled())
        coroutine.close()
        return 0

    monkeypatch.setattr(roles, "_serve", serve)
    gc.disable()
    try:
        assert cli.main([f"--role={role}", "--data-dir", str(tmp_path)]) == 0
    finally:
        gc.enable()
        gc.unfreeze()
    assert states == [True]


def test_a_command_runs_with_the_collector_on(tmp_path: Path) -> None:
    """So does everything that is no role."""
    gc.disable()
    try:
        cli.main(["env", "--data-dir", str(tmp_path)])
        assert gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("127.0.0.1", "an IP address has no names below it"),
        ("sbx.test:99999", "expected a port from 1 to 65535"),
        ("*.sbx.test", "give the name without"),
        ("sbx..test", "is no part of a DNS name"),
    ],
)
def test_a_domain_that_cannot_be_one_is_named(
    name: str, why: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One line that says what is wrong with NAME; nothing is made."""
    arguments = ["domain", name, "--data-dir", str(tmp_path / "box")]
    assert cli.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("appliance: NAME: ") and why in said and said.count("\n") == 1
    assert not (tmp_path / "box").exists()


@pytest.mark.parametrize("role", ["manager", "controller"])
def test_a_role_without_a_cluster_says_so_in_a_line(
    role: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kubeconfig, no pod: exit code 1 and one sentence that names what would name a cluster, no traceback."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(roles, "_settle", lambda: None)
    assert cli.main([f"--role={role}", "--data-dir", "/nonexistent/x"]) == 1
    said = capsys.readouterr().err
    assert "appliance: no kubeconfig is named (--kubeconfig, KUBECONFIG)" in said
    assert "Traceback" not in said


def test_a_file_that_is_not_there_is_named_without_an_error_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """FILE: what is wrong, as every tool says it."""
    assert cli.main(["bundle", "verify", str(tmp_path / "x.tar")]) == 1
    assert capsys.readouterr().err == f"appliance: {tmp_path}/x.tar: No such file or directory\n"


def test_the_usage_does_not_hide_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command is one line; a command of few flags shows them; its help begins with what it is for."""
    with pytest.raises(SystemExit):
        cli.main(["frobnicate"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "expected one of env, kubeconfig" in lines[0]
    with pytest.raises(SystemExit):
        cli.main(["apply"])
    assert capsys.readouterr().err.startswith("usage: appliance apply")
    with pytest.raises(SystemExit):
        cli.main(["apply", "--help"])
    assert "Create or change objects from YAML files." in capsys.readouterr().out


@pytest.mark.parametrize("flag", [["--wait", "5"], ["--force-conflicts"]])
def test_what_only_applying_does_is_refused_without_it(flag: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A flag that printing the manifests cannot honour is named, not dropped."""
    assert cli.main(["install", *flag]) == 1
    assert f"{flag[0]}: goes with --apply only" in capsys.readouterr().err


async def test_sigterm_ends_a_role_in_order() -> None:
    """A role that ends by cancellation does its clean-up at SIGTERM, and that is no error."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def role() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    serving = asyncio.create_task(roles.until_told(role()))
    await asyncio.wait_for(begun.wait(), 60)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, 60)
    assert ended.is_set()


def test_the_first_process_of_a_container_ends_at_sigterm_before_it_serves() -> None:
    """Without a handler the signal would be dropped for pid 1."""
    child = os.fork()
    if child == 0:
        os.getpid = lambda: 1  # type: ignore[method-assign]
        roles.heed_sigterm()
        signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143


async def test_an_end_that_nobody_asked_for_is_an_error() -> None:
    """Without the signal a cancelled role stays one."""

    async def role() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await roles.until_told(role())


def test_a_store_that_cannot_be_opened_is_said_in_a_line(tmp_path: Path) -> None:
    """``--role=apiserver`` where its data directory cannot be: the file and the reason, no traceback."""
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "appliance", "--role=apiserver", "--data-dir", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"appliance: cannot open the store {tmp_path}/file/store/state.db: ")
    assert "Traceback" not in done.stderr
