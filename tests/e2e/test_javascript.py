"""The JavaScript SDKs and the CLI, as npm installs them, against a real box."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from boxes import RunningBox, environment
from e2b import Sandbox

pytestmark = pytest.mark.box
PROGRAMS = Path(__file__).parent / "js"


@pytest.fixture(scope="module")
def modules() -> Path:
    """The installed ``node_modules``."""
    found = os.environ.get("APPLIANCE_TEST_JS")
    if found is None:
        pytest.skip("APPLIANCE_TEST_JS is unset; packaging/test.sh installs the npm packages of tests/e2e/js")
    return Path(found) / "node_modules"


def run(box: RunningBox, *command: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    """A program of a user's shell that points at the box, in a home of its own."""
    env = {**environment(), **box.env, "HOME": str(home), "NO_COLOR": "1", "FORCE_COLOR": "0"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("program", ["sdk", "interpreter"])
def test_the_javascript_sdks_run_unmodified(box: RunningBox, modules: Path, tmp_path: Path, program: str) -> None:
    """A whole life through ``e2b`` and ``@e2b/code-interpreter``: every assertion of the program holds."""
    (tmp_path / "node_modules").symlink_to(modules)
    script = shutil.copy(PROGRAMS / f"{program}.mjs", tmp_path)
    done = run(box, "node", script, home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "ok\n"), f"{done.stderr}\n{box.role_logs()}"


def test_a_page_of_another_origin_uses_the_sdk(box: RunningBox, modules: Path, tmp_path: Path) -> None:
    """In Chromium: the API's and the sandboxes' answers may be read by the page, errors and paging too."""
    bundler = os.environ.get("APPLIANCE_TEST_VITE")
    if bundler is None:
        pytest.skip("APPLIANCE_TEST_VITE is unset; packaging/test.sh installs the npm packages of tests/e2e/vite")
    if shutil.which("chromium") is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    (tmp_path / "node_modules").symlink_to(modules)
    script = shutil.copy(PROGRAMS / "browser.mjs", tmp_path)
    esbuild = Path(bundler).resolve() / "node_modules" / "esbuild" / "lib" / "main.js"
    env = {**environment(), **box.env, "HOME": str(tmp_path)}
    command = ["node", script, str(esbuild)]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), f"{done.stderr}\n{box.role_logs()}"


def test_the_cli_lists_executes_and_shows_logs_and_metrics(box: RunningBox, modules: Path, tmp_path: Path) -> None:
    """``e2b sandbox list|exec|logs|metrics|kill`` and ``e2b template list`` work and tell the truth."""
    options = {name.removeprefix("E2B_").lower(): value for name, value in box.env.items()}
    access = {name: options[name] for name in ("api_key", "api_url", "sandbox_url")}
    with Sandbox.create("code-interpreter", timeout=60, **access) as sandbox:
        own = sandbox.sandbox_id
        for words, expected in (
            (("sandbox", "list"), own),
            (("sandbox", "exec", own, "echo", "from-the-cli"), "from-the-cli"),
            (("sandbox", "logs", own), "Sandbox created"),
            (("sandbox", "logs", own, "--format", "json"), '"level":"info"'),
            (("sandbox", "metrics", own), "CPU"),
            (("template", "list"), "code-interpreter"),
            (("sandbox", "kill", own), own),
        ):
            done = run(box, "node", modules / ".bin" / "e2b", *words, home=tmp_path)
            assert done.returncode == 0 and expected in done.stdout, f"{words}: {done.stdout}{done.stderr}"
        assert not sandbox.is_running()
