"""The box's own kubeconfigs: read as the kubernetes package reads them, without it; all others are left to it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from appliance.box import layout
from appliance.kube import credentials, errors, plainconfig

Change = Callable[[dict[str, Any]], Any]


def _authority() -> bytes:
    """Some certificate: the machine's Python has a bundle of them."""
    import certifi

    text = Path(certifi.where()).read_text()
    return (
        text[text.index("-----BEGIN") :].partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    ).encode()


def written(directory: Path, role: str) -> Path:
    """A kubeconfig as the box writes it."""
    path = directory / "kubeconfig"
    path.write_text(layout._kubeconfig("127.0.0.1:16443", _authority(), role, "secret"))
    return path


@pytest.mark.parametrize("role", ["admin", "manager"])
async def test_it_reads_what_the_package_reads(role: str, tmp_path: Path) -> None:
    """The administrator's file with TLS and a role's without: address, token and trust are the same."""
    path = written(tmp_path, role)
    access = await credentials.from_kubeconfig(path)()
    configuration = Configuration()
    await load_kube_config(str(path), client_configuration=configuration, persist_config=False)
    assert access.server == configuration.host
    assert access.authorization == configuration.api_key["BearerToken"] == "Bearer secret"
    assert (access.tls is not None) == (role == "admin")
    if access.tls is not None:
        assert len(access.tls.get_ca_certs()) == 1
        assert access.tls.check_hostname
    again = await credentials.from_kubeconfig(path)()
    assert (again.server_name, again.proxy, again.renew_at) == (None, None, None)


async def test_a_renewed_file_is_read_again_and_keeps_its_connections(tmp_path: Path) -> None:
    """Another token is another access; the same authority is the same context."""
    path = written(tmp_path, "admin")
    load = credentials.from_kubeconfig(path)
    before = await load()
    path.write_text(path.read_text().replace("secret", "newer"))
    after = await load()
    assert (before.authorization, after.authorization) == ("Bearer secret", "Bearer newer")
    assert before.tls is after.tls


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["clusters"][0]["cluster"].update({"insecure-skip-tls-verify": True}),
        lambda c: c["clusters"][0]["cluster"].update({"proxy-url": "http://p"}),
        lambda c: c["clusters"][0]["cluster"].update({"certificate-authority-data": "%"}),
        lambda c: c["clusters"][0]["cluster"].update({"certificate-authority-data": ""}),
        lambda c: c["clusters"][0]["cluster"].update({"server": "unix:///x"}),
        lambda c: c["clusters"].append(c["clusters"][0]),
        lambda c: c["users"][0]["user"].update({"tokenFile": "/x"}),
        lambda c: c["users"][0].update({"user": {"exec": {"command": "x"}}}),
        lambda c: c["users"][0].update({"user": {"token": ""}}),
        lambda c: c["users"][0].update({"user": {"token": 5}}),
        lambda c: c["contexts"][0]["context"].update({"cluster": "other"}),
        lambda c: c.update({"current-context": "other"}),
        lambda c: c.update({"preferences": {}}),
        lambda c: c.pop("users"),
        lambda c: c.update({"users": {}}),
    ],
)
def test_anything_else_is_left_to_the_package(change: Change, tmp_path: Path) -> None:
    """A field that is not known here, or not as the box writes it: not this module's file."""
    path = written(tmp_path, "admin")
    assert plainconfig.read(path) is not None
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    assert plainconfig.read(path) is None


@pytest.mark.parametrize("text", ["", "5", "[]", "apiVersion: v1\nkind: Config\n", "{", "\xff"])
def test_what_is_no_json_object_is_left_to_the_package(text: str, tmp_path: Path) -> None:
    """YAML and broken files; so is a file that is not there."""
    (tmp_path / "kubeconfig").write_text(text, encoding="latin-1")
    assert plainconfig.read(tmp_path / "kubeconfig") is None
    assert plainconfig.read(tmp_path / "missing") is None


async def test_an_authority_that_is_none_is_said(tmp_path: Path) -> None:
    """Data that holds no certificate is a configuration error, not a traceback."""
    path = written(tmp_path, "admin")
    config = json.loads(path.read_text())
    config["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(b"none").decode()
    path.write_text(json.dumps(config))
    with pytest.raises(errors.ConfigError, match="certificates of the cluster connection"):
        await credentials.from_kubeconfig(path)()


def test_on_a_box_the_package_is_never_loaded(tmp_path: Path) -> None:
    """A role that reads its kubeconfig has neither the package nor what it brings in memory."""
    path = written(tmp_path, "admin")
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from appliance.kube import credentials\n"
        f"print(asyncio.run(credentials.from_kubeconfig(Path({str(path)!r}))()).server)\n"
        "print(sorted({'kubernetes', 'requests', 'urllib3', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "https://127.0.0.1:16443\n[]\n", done.stderr
