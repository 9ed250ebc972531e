"""Kubeconfigs as the box writes them: JSON, one cluster, one user with a token. Read without ``kubernetes``.

That package, with YAML, HTTP and more, takes a seventh of a second, which every role of a box and every command on it
would spend. A file that holds anything this module does not know is none of its business: ``read`` says None, and
:mod:`credentials` hands it to the package, whose messages also name what is wrong with it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TOP = {"apiVersion", "kind", "clusters", "users", "contexts", "current-context"}
_CLUSTER = {"server", "certificate-authority-data"}
_CONTEXT = {"cluster", "user", "namespace"}


@dataclass(frozen=True)
class Plain:
    """All that such a file says."""

    server: str
    """URL without a trailing slash."""
    token: str
    authority: str | None
    """Certificates in PEM; None: the system's."""


def read(path: Path) -> Plain | None:
    """What the file says; None when it is no such file, or one that cannot be read."""
    try:
        config = json.loads(path.read_bytes())
        if not isinstance(config, dict) or not config.keys() <= _TOP:
            return None
        name, context = _only(config, "contexts", "context")
        (cluster_name, cluster), (user_name, user) = (
            _only(config, "clusters", "cluster"),
            _only(config, "users", "user"),
        )
        if (config["current-context"], context["cluster"], context["user"]) != (name, cluster_name, user_name):
            return None
        if not context.keys() <= _CONTEXT or not cluster.keys() <= _CLUSTER or user.keys() != {"token"}:
            return None
        server, token = cluster["server"].rstrip("/"), user["token"].strip()
        encoded = cluster.get("certificate-authority-data")
        authority = None if encoded is None else base64.b64decode(encoded, validate=True).decode("ascii")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    usable = token and server.startswith(("http://", "https://")) and authority != ""
    return Plain(server, token, authority) if usable else None


def _only(config: Mapping[str, Any], plural: str, singular: str) -> tuple[str, dict[str, Any]]:
    """Name and contents of the one entry of a list. Raises ``ValueError`` when there is not exactly one."""
    (entry,) = config[plural]
    if entry.keys() != {"name", singular} or not isinstance(entry[singular], dict):
        raise ValueError(plural)
    return entry["name"], entry[singular]
