"""The data directory of one box: which file is where, who may read it, and how it comes into being.

Everything is below one directory of mode 0700. Secrets (API key, bearer tokens, kubeconfigs) are files of mode
0600; they never travel through arguments or logs. Tokens and the key are made once and kept, so a second start
finds the clients of the first still working; kubeconfigs are rewritten at each start, as the address may have changed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.api.address import parse_address
from appliance.api.ids import new_api_key
from appliance.box import certificates

ROLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "admin": ("admin", ("system:masters",)),
    "controller": ("system:serviceaccount:sandbox-system:sandbox-controller-manager", ("system:serviceaccounts",)),
    "manager": ("system:serviceaccount:sandbox-system:sandbox-manager", ("system:serviceaccounts",)),
    "node": ("system:node:box", ("system:nodes",)),
}
"""Name of each kubeconfig → the user and groups the API server sees."""


@dataclass(frozen=True)
class Layout:
    """Paths below one data directory."""

    root: Path

    @property
    def lock(self) -> Path:
        """The file whose lock is the right to run here; holds the supervisor's pid."""
        return self.root / "lock"

    @property
    def api_key(self) -> Path:
        """The first API key, in clear, mode 0600."""
        return self.root / "api-key"

    @property
    def run(self) -> Path:
        """Sockets, tokens and the roles' kubeconfigs."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log file per role."""
        return self.root / "log"

    @property
    def tls(self) -> Path:
        """The box's certificate authority and the API server's certificate."""
        return self.root / "tls"

    @property
    def endpoints(self) -> Path:
        """What ``appliance env`` and ``appliance status`` read: the addresses of the last start."""
        return self.run / "endpoints.json"

    def kubeconfig(self, role: str) -> Path:
        """The kubeconfig of a role; the administrator's lies at the top, where users look for it."""
        return self.root / "kubeconfig" if role == "admin" else self.run / f"{role}.kubeconfig"

    def prepare(self, apiserver: str) -> None:
        """Create what is missing: directories, tokens, kubeconfigs for ``apiserver`` (HOST:PORT) and the API key."""
        for path in (self.root, self.run, self.logs, self.tls, self.root / "store", self.root / "node"):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o700)
        certificates.ensure(self.tls, parse_address(apiserver, "--apiserver-listen").host or "localhost", write_private)
        authority = (self.tls / "ca.crt").read_bytes()
        tokens = self._tokens()
        for role, token in tokens.items():
            write_private(self.kubeconfig(role), _kubeconfig(apiserver, authority, role, token))
        accepted = {
            hashlib.sha256(token.encode()).hexdigest(): {"user": ROLES[role][0], "groups": list(ROLES[role][1])}
            for role, token in tokens.items()
        }
        write_private(self.run / "tokens.json", json.dumps(accepted, indent=1))
        if not self.api_key.exists():
            write_private(self.api_key, new_api_key() + "\n")

    def _tokens(self) -> dict[str, str]:
        path = self.run / "bearer-tokens.json"
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        tokens = {role: known.get(role) or secrets.token_urlsafe(32) for role in ROLES}
        if tokens != known:
            write_private(path, json.dumps(tokens))
        return tokens


def write_private(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, readable by its owner alone from the first byte on."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _kubeconfig(apiserver: str, authority: bytes, role: str, token: str) -> str:
    """The administrator's goes over TLS, for kubectl's sake; the roles beside the server save themselves that."""
    cluster = {"server": f"http://{apiserver}"}
    if role == "admin":
        cluster = {
            "server": f"https://{apiserver}",
            "certificate-authority-data": base64.b64encode(authority).decode(),
        }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "appliance", "cluster": cluster}],
        "users": [{"name": role, "user": {"token": token}}],
        "contexts": [{"name": "appliance", "context": {"cluster": "appliance", "user": role, "namespace": "default"}}],
        "current-context": "appliance",
    }
    return json.dumps(config, indent=1) + "\n"
