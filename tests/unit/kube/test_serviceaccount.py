"""The way in that a pod is given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.kube import credentials, errors, serviceaccount

PLACE = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What the kubelet mounts."""
    (tmp_path / "token").write_text("t0\n")
    (tmp_path / "ca.crt").write_text("not read here")
    return tmp_path


def test_it_is_read(directory: Path) -> None:
    """Address, token without its newline, and authorities; an IPv6 address is bracketed."""
    found = serviceaccount.read(PLACE, directory)
    assert found == serviceaccount.Account("https://10.96.0.1:443", "t0", directory / "ca.crt")
    found = serviceaccount.read({**PLACE, "KUBERNETES_SERVICE_HOST": "fd00::1"}, directory)
    assert found.server == "https://[fd00::1]:443"


@pytest.mark.parametrize("name", ["token", "ca.crt"])
def test_what_is_empty_or_missing_is_named(directory: Path, name: str) -> None:
    """A half-mounted account is refused with the file or variable that lacks."""
    (directory / name).write_text("")
    with pytest.raises(ValueError, match=f"{name} is empty"):
        serviceaccount.read(PLACE, directory)
    (directory / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        serviceaccount.read(PLACE, directory)
    with pytest.raises(ValueError, match="KUBERNETES_SERVICE_PORT"):
        serviceaccount.read({"KUBERNETES_SERVICE_HOST": "h"}, directory)


async def test_an_unusable_account_is_a_configuration_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Authorities that are no certificates: the message is about certificates, not a traceback from a library."""
    monkeypatch.setattr(serviceaccount, "DIRECTORY", directory)
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(errors.ConfigError, match="certificates of the cluster connection"):
        await credentials.in_cluster()()


def test_a_pod_never_loads_the_kubernetes_package(directory: Path) -> None:
    """Reading the account and failing at its authorities imports nothing of that package, nor what it brings."""
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from appliance.kube import credentials, errors, serviceaccount\n"
        f"serviceaccount.DIRECTORY = Path({str(directory)!r})\n"
        "try: asyncio.run(credentials.in_cluster()())\n"
        "except errors.ConfigError: pass\n"
        "print(sorted({'kubernetes', 'requests', 'urllib3', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **PLACE}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr
