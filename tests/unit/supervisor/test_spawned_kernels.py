"""Kernels that are executed from a kernel specification, not forked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def install(root: Path, name: str) -> None:
    """A kernel specification: Python under another name."""
    directory = root / "kernels" / name
    directory.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (directory / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": name, "language": name}))


def test_the_default_javascript_context_is_listed_before_its_first_cell(sandbox_class: Any, tmp_path: Path) -> None:
    """Beside Python's, second whatever was made before; it has no process until a cell needs one, then it is the one
    that cells of its language run in; removed it is gone, and made anew as any default.
    """
    install(tmp_path, "javascript")
    made = sandbox_class(env={"JUPYTER_PATH": str(tmp_path)})
    try:
        made.wait_warm()
        _, own = made.call("POST", "/contexts", {})
        kernels = len(made.children)
        listed = made.call("GET", "/contexts")[1]
        assert [context["language"] for context in listed] == ["python", "javascript", "python"]
        assert listed[2] == own
        assert made.call("GET", "/contexts")[1] == listed
        assert len(made.children) == kernels
        assert made.text("v = 42; v", language="js") == "42"
        assert made.text("v", context_id=listed[1]["id"]) == "42"
        assert made.call("DELETE", f"/contexts/{listed[1]['id']}") == (200, None)
        assert [context["language"] for context in made.call("GET", "/contexts")[1]] == ["python", "python"]
        assert made.text("1", language="js") == "1"
    finally:
        made.close()


def test_an_installed_kernel_is_a_language(sandbox_class: Any, tmp_path: Path) -> None:
    """A specification found by jupyter_client works through the same contexts: run, interrupt by restart, remove."""
    install(tmp_path, "other")
    made = sandbox_class(env={"JUPYTER_PATH": str(tmp_path)})
    try:
        made.wait_warm()
        assert made.text("40 + 2", language="other") == "42"
        context = made.call("GET", "/contexts")[1][-1]
        assert context["language"] == "other"
        assert made.text("40 + 3", context_id=context["id"]) == "43"
        assert made.call("POST", f"/contexts/{context['id']}/restart") == (200, None)
        assert made.text("1", context_id=context["id"]) == "1"
        assert made.call("DELETE", f"/contexts/{context['id']}") == (200, None)
    finally:
        made.close()
