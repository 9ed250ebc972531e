"""The service account of the pod that a role runs in: two variables and two files, read without ``kubernetes``.

Importing that package takes a third as long as all the rest of a role's start, and in a pod nothing else of it is
needed (kubeconfigs, with their plugins and providers, are its business: see :mod:`credentials`).
Source: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"


@dataclass(frozen=True)
class Account:
    """What the pod was given."""

    server: str
    """URL of the API server."""
    token: str
    authority: Path
    """PEM file of the authorities that the server's certificate is checked against."""


def read(environment: Mapping[str, str], directory: Path | None = None) -> Account:
    """The account as it is now; the kubelet renews the token. Raises ValueError or OSError naming what lacks."""
    host, port = environment.get(_HOST), environment.get(_PORT)
    if not host or not port:
        raise ValueError(f"{_HOST} and {_PORT} are not set")
    place = directory or DIRECTORY
    token = (place / "token").read_text().strip()
    if not token:
        raise ValueError(f"{place / 'token'} is empty")
    authority = place / "ca.crt"
    if not authority.stat().st_size:
        raise ValueError(f"{authority} is empty")
    bracketed = f"[{host}]" if ":" in host else host
    return Account(f"https://{bracketed}:{port}", token, authority)
