"""The built file as a user has it: copied into an empty directory, no checkout, no packages, no network needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import free_port
from e2b_code_interpreter import Sandbox
from pyzfile import base_python, built, clean_environment

from appliance.api.kinds import OURS
from appliance.commands import MODULES

COMMANDS = (*(name for name in MODULES if name != "box"), "env", "kubeconfig", "status", "apply", "inject", "uninstall")


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file in an empty directory."""
    directory = tmp_path_factory.mktemp("away")
    shutil.copy(built(), directory / "appliance.pyz")
    return directory


def run(away: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the file with the bare interpreter."""
    command = [base_python(), str(away / "appliance.pyz"), *arguments]
    home = away / "home"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        command,
        env=clean_environment(home, **environment),
        cwd=away,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_fits_and_says_who_it_is(away: Path) -> None:
    """The file has at most 30 MB and answers --version without being told where anything is."""
    assert (away / "appliance.pyz").stat().st_size <= 30_000_000
    done = run(away, "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("appliance ")


@pytest.mark.timeout(240)  # compiles all of it
def test_every_role_and_command_is_in_it(away: Path) -> None:
    """All entry points import from the file's own tree: nothing a role needs was pruned."""
    code = (
        "import appliance.box.main, appliance.box.apply, appliance.box.status, appliance.embedded.apiserver.main\n"
        "import appliance.embedded.node.main, appliance.embedded.node.template, appliance.controller.main\n"
        "import appliance.manager.main, appliance.runtime.server, appliance.runtime.main, appliance.api.crds\n"
        "import tui.main, tui.app, tui.web.server, appliance.image.build, appliance.install.command\n"
        "import appliance.install.apply, appliance.install.chart, appliance.bundle.pack\n"
        "import appliance.bundle.load, appliance.doctor.command\n"
        "from kubernetes.aio.config import load_kube_config, load_incluster_config\n"
        "from appliance.runtime import supervisor; supervisor.preload()\n"
        "import pip, json; print(json.dumps(appliance.__file__))"
    )
    assert run(away, "--version").returncode == 0
    tree = next((away / "home/.cache/appliance").glob("*/site-packages"))
    done = subprocess.run(
        [base_python(), "-I", "-c", f"import sys; sys.path.insert(0, {str(tree)!r})\n{code}"],
        env=clean_environment(away / "home"),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)).is_relative_to(tree)
    for command in COMMANDS:
        assert run(away, command, "--help").returncode == 0


def test_it_installs_and_looks_by_itself(away: Path) -> None:
    """Rendering and the doctor need nothing but the file: manifests with every CRD, and a verdict on this machine."""
    done = run(away, "install", "--domain", "sbx.example", "--ingress")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nkind: CustomResourceDefinition") == len(OURS)
    looked = run(away, "doctor", "--machine-only", "--json", "--data-dir", str(away / "d"))
    assert {"machine.python", "machine.kernel"} <= {one["check"] for one in json.loads(looked.stdout)["findings"]}


def test_a_truncated_file_does_not_start(away: Path, tmp_path: Path) -> None:
    """Half a download is refused, and the refusal names the file."""
    data = (away / "appliance.pyz").read_bytes()
    half = tmp_path / "appliance.pyz"
    half.write_bytes(data[: len(data) // 2])
    done = subprocess.run(
        [base_python(), str(half), "--version"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert str(half) in done.stderr


@pytest.fixture
def cloud(machine: None, away: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """``appliance.pyz --role=all`` with a warm pool; the exports it printed."""
    data, log = tmp_path / "data", tmp_path / "out"
    command = [base_python(), str(away / "appliance.pyz"), "--role=all", "--data-dir", str(data), "--pool", "1"]
    command += ["--listen", f"127.0.0.1:{free_port()}", "--apiserver-listen", f"127.0.0.1:{free_port()}"]
    environment = clean_environment(away / "home", PYTHONDONTWRITEBYTECODE="1")
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=away, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while "\nready." not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        lines = [line.removeprefix("export ") for line in log.read_text().splitlines() if line.startswith("export ")]
        yield dict(line.split("=", 1) for line in lines)
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


@pytest.mark.box
def test_a_cloud_from_the_file_alone(cloud: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK creates a sandbox, runs code in a kernel that the file carries, writes files and starts programs."""
    for name in ("E2B_API_URL", "E2B_SANDBOX_URL", "E2B_API_KEY"):
        monkeypatch.setenv(name, cloud[name])
    with Sandbox.create(template="code-interpreter", timeout=120) as sandbox:
        assert sandbox.run_code("sum(range(101))").text == "5050"
        assert sandbox.run_code("{'a': [1, None]}").results[0].json == {"a": [1, None]}
        assert "ZeroDivisionError" in (sandbox.run_code("1/0").error or pytest.fail("no error")).name
        sandbox.files.write("/home/user/note", "kept")
        assert sandbox.commands.run("cat /home/user/note").stdout == "kept"
        assert sandbox.commands.run("pip --version").stdout.startswith("pip ")
