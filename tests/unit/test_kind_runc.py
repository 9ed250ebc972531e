"""``packaging/kind/runc.py``: what a container asks for is cut down to what the machine's root has."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "packaging" / "kind" / "runc.py"


@pytest.fixture(scope="module")
def runc() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("kind_runc", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def process(*names: str) -> dict[str, Any]:
    """An OCI process that asks for those capabilities."""
    return {"args": ["sh"], "capabilities": {"bounding": list(names), "effective": list(names)}}


def test_a_new_container_and_a_process_in_it_lose_what_is_not_there(runc: Any, tmp_path: Path) -> None:
    """The bundle of ``create`` and the file of ``exec``; everything else of them stays."""
    (tmp_path / "config.json").write_text(
        json.dumps({"root": {"path": "r"}, "process": process("CAP_KILL", "CAP_BPF")})
    )
    (tmp_path / "exec").write_text(json.dumps(process("CAP_BPF", "CAP_KILL")))
    runc.rewrite(["--root", "/x", "create", "--bundle", str(tmp_path), "id"], {"CAP_KILL"})
    runc.rewrite(["exec", "--process", str(tmp_path / "exec"), "id"], {"CAP_KILL"})
    assert json.loads((tmp_path / "config.json").read_text()) == {"root": {"path": "r"}, "process": process("CAP_KILL")}
    assert json.loads((tmp_path / "exec").read_text()) == process("CAP_KILL")


def test_the_kernels_names_are_in_the_order_of_its_bits(runc: Any) -> None:
    """Of what this process can have, as the kernel says it, by the numbers of linux/capability.h."""
    names = runc.NAMES.split()
    assert (names.index("CHOWN"), names.index("SYS_ADMIN"), names.index("SYS_RESOURCE"), len(names)) == (0, 21, 24, 41)
    assert runc.available() <= {f"CAP_{name}" for name in names}


def test_the_real_runc_gets_every_argument(tmp_path: Path) -> None:
    """Nothing of them is lost."""
    real = tmp_path / "runc"
    real.write_text('#!/bin/sh\necho "$@"\n')
    real.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        [SCRIPT, "--log", "l", "state", "id"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "--log l state id\n"
