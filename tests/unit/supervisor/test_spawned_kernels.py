"""Kernels that are executed from a kernel specification, not forked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def test_an_installed_kernel_is_a_language(sandbox_class: Any, tmp_path: Path) -> None:
    """A specification found by jupyter_client works through the same contexts: run, interrupt by restart, remove."""
    directory = tmp_path / "kernels" / "other"
    directory.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (directory / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Other", "language": "other"}))
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
