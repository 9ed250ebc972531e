"""The programs that take image archives, as tests call them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from bundlefile import built_bundle
from pyzfile import base_python, built, clean_environment


def program(name: str, package: str) -> str:
    """The path of a program, or a skip that says where it comes from."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is missing: apt-get install {package} (packaging/test.sh does)")
    return path


def said(*command: str | Path, **environment: str) -> str:
    """What a program that must succeed prints; ``environment`` is added to its own."""
    done = subprocess.run(
        [str(word) for word in command], env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def loaded(home: Path, place: str, tools: Path, *words: str, **environment: str) -> list[str]:
    """What ``bundle load --into PLACE`` of the built file says, with ``tools`` in PATH and nothing else of ours."""
    clean = clean_environment(home, **environment)
    clean["PATH"] += f":{tools}"
    command = [base_python(), str(built()), "bundle", "load", str(built_bundle()), "--into", place, *words]
    done = subprocess.run(command, env=clean, cwd=home, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()
