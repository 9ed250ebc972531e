"""The cluster that contract tests run against: the embedded API server, as a process of its own.

``apiserver`` is one server per test session with the product's CRDs; tests keep apart by namespaces of their own
(``namespace``). ``own_apiserver`` starts one for a single test that stops, kills or fills it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.box import certificates
from appliance.box.layout import write_private

ROOT = Path(__file__).parents[2]
_PROGRAM = """
import asyncio, sys
from pathlib import Path
from appliance.config import ApiServerSettings
from appliance.embedded.apiserver.main import run
import logging
class Ready(logging.Handler):
    def emit(self, record):
        message = record.getMessage()
        if message.startswith("serving on "):
            print(message.split()[2].rstrip(","), flush=True)
logger = logging.getLogger("appliance.embedded.apiserver.main")
logger.setLevel(logging.INFO)
logger.addHandler(Ready())
data = Path(sys.argv[1])
asyncio.run(run(ApiServerSettings(
    data_dir=data, listen=sys.argv[2], bookmark_interval=float(sys.argv[3]),
    tls_cert=data / "tls" / "server.crt", tls_key=data / "tls" / "server.key",
)))
"""


class ApiServer:
    """A running API server. ``url`` (plain HTTP), ``token``, ``kubeconfig`` (a path; HTTPS) and ``data_dir``."""

    def __init__(self, data_dir: Path, listen: str = "127.0.0.1:0", bookmark_interval: float = 1.0) -> None:
        self.data_dir = data_dir
        self.listen = listen
        self.bookmark_interval = bookmark_interval
        self.token = secrets.token_hex(16)
        self.url = ""
        self.kubeconfig = data_dir / "kubeconfig"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts the process and waits for its announcement; fails with its log when it does not come up."""
        (self.data_dir / "run").mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(self.token.encode()).hexdigest()
        (self.data_dir / "tls").mkdir(exist_ok=True)
        certificates.ensure(self.data_dir / "tls", "127.0.0.1", write_private)
        identity = {"user": "admin", "groups": ["system:masters"]}
        (self.data_dir / "run" / "tokens.json").write_text(json.dumps({digest: identity}))
        with (self.data_dir / "apiserver.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(self.data_dir), self.listen, str(self.bookmark_interval)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            )
        assert self.process.stdout is not None
        self.listen = self.process.stdout.readline().strip().removeprefix("https://")
        if not self.listen:
            pytest.fail("the API server did not start: " + (self.data_dir / "apiserver.log").read_text())
        self.url = f"http://{self.listen}"
        self._write_kubeconfig()

    def _write_kubeconfig(self) -> None:
        authority = base64.b64encode((self.data_dir / "tls" / "ca.crt").read_bytes()).decode()
        cluster = {"server": f"https://{self.listen}", "certificate-authority-data": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "box", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "box", "context": {"cluster": "box", "user": "admin"}}],
            "current-context": "box",
        }
        self.kubeconfig.write_text(json.dumps(config))
        self.kubeconfig.chmod(0o600)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the process with a signal and returns its exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(number)
        code = process.wait(timeout=20)
        assert process.stdout is not None
        process.stdout.close()
        return code

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        media: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """One request with the token: (status, decoded JSON)."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": media, **(headers or {})}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ApiServer]:
    """The session's API server: ``.url``, ``.token``, ``.kubeconfig``, ``.data_dir``, ``.request(…)``."""
    with tempfile.TemporaryDirectory(prefix="apiserver-") as directory:
        server = ApiServer(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def own_apiserver(tmp_path: Path) -> Iterator[Callable[..., ApiServer]]:
    """A factory of API servers for one test, on data directories of their own."""
    started: list[ApiServer] = []

    def make(**options: Any) -> ApiServer:
        server = ApiServer(tmp_path / f"box{len(started)}", **options)
        started.append(server)
        server.start()
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def namespace(apiserver: ApiServer) -> str:
    """A fresh namespace on the session's API server."""
    name = f"test-{secrets.token_hex(4)}"
    code, _ = apiserver.request(
        "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    assert code == 201
    return name
