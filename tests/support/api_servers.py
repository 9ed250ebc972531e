"""API servers for contract tests: what every kind of them offers, and the embedded one as a process of its own.

Tests know only ``ApiServer``: an address, a token of an administrator, a kubeconfig, raw requests, start and stop. The
real one (etcd and kube-apiserver) is in ``real_cluster.py``.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.api import podguard
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


ACCOUNTS = {
    "controller": (podguard.CONTROLLER_USER, "system:masters"),
    "node": ("system:node:box", "system:nodes,system:masters"),
}
"""Roles with the names they have everywhere, and an administrator's rights: role -> (user, groups)."""


class ApiServer:
    """A running API server: ``listen`` (host:port), ``token``, ``kubeconfig`` (a path; HTTPS) and ``data_dir``."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.listen = ""
        self.token = secrets.token_hex(16)
        self.accounts = {role: secrets.token_hex(16) for role in ACCOUNTS}
        """Token of each of ``ACCOUNTS``."""
        self.kubeconfig = data_dir / "kubeconfig"
        self.process: subprocess.Popen[str] | None = None
        self._tls: ssl.SSLContext | None = None

    def start(self) -> None:
        """Starts the process and waits until it serves; fails with its log when it does not come up."""
        raise NotImplementedError

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the process with a signal and returns its exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            code = process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        if process.stdout is not None:
            process.stdout.close()
        return code

    def connection(self, timeout: float = 20) -> http.client.HTTPSConnection:
        """A fresh connection that trusts the server's authority; the caller closes it."""
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self.data_dir / "tls" / "ca.crt"))
        host, port = self.listen.rsplit(":", 1)
        return http.client.HTTPSConnection(host, int(port), timeout=timeout, context=self._tls)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        media: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """One request with the token: (status, decoded JSON), or the text where a server answers none."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": media, **(headers or {})}
        connection = self.connection()
        try:
            connection.request(method, path, body=data, headers=sent)
            answer = connection.getresponse()
            text = answer.read()
            plain = (answer.getheader("Content-Type") or "").startswith("text/plain")
            return answer.status, text.decode() if plain else json.loads(text)
        finally:
            connection.close()

    def make_certificates(self) -> None:
        """An authority and a server certificate for loopback in ``data_dir/tls``, kept over restarts."""
        (self.data_dir / "tls").mkdir(parents=True, exist_ok=True)
        certificates.ensure(self.data_dir / "tls", "127.0.0.1", write_private)

    def write_kubeconfig(self) -> None:
        """The kubeconfigs of the administrator and of ``ACCOUNTS``, mode 0600."""
        self._write_kubeconfig(self.kubeconfig, self.token)
        for role, token in self.accounts.items():
            self._write_kubeconfig(self.kubeconfig_of(role), token)

    def kubeconfig_of(self, role: str) -> Path:
        """Where the kubeconfig of one of ``ACCOUNTS`` is."""
        return self.data_dir / f"{role}.kubeconfig"

    def _write_kubeconfig(self, path: Path, token: str) -> None:
        authority = base64.b64encode((self.data_dir / "tls" / "ca.crt").read_bytes()).decode()
        cluster = {"server": f"https://{self.listen}", "certificate-authority-data": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "box", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "box", "context": {"cluster": "box", "user": "admin"}}],
            "current-context": "box",
        }
        write_private(path, json.dumps(config))


class EmbeddedApiServer(ApiServer):
    """The product's own, on a data directory of its own."""

    def __init__(self, data_dir: Path, listen: str = "127.0.0.1:0", bookmark_interval: float = 1.0) -> None:
        super().__init__(data_dir)
        self.listen = listen
        self.bookmark_interval = bookmark_interval

    def start(self) -> None:
        """Starts the process and waits for its announcement."""
        (self.data_dir / "run").mkdir(parents=True, exist_ok=True)
        self.make_certificates()
        users = {self.token: ("admin", "system:masters"), **{self.accounts[role]: ACCOUNTS[role] for role in ACCOUNTS}}
        known = {
            hashlib.sha256(token.encode()).hexdigest(): {"user": name, "groups": groups.split(",")}
            for token, (name, groups) in users.items()
        }
        (self.data_dir / "run" / "tokens.json").write_text(json.dumps(known))
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
        self.write_kubeconfig()
