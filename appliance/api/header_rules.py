"""Headers that requests of a sandbox to certain hosts get, and the authority by which they are put into TLS.

A value is as good as a password, and so is the authority's key: both are kept in one Secret per revision, owned by the
Sandbox (``secret_name``). The annotation ``EGRESS`` of Sandbox and Pod names the revision and nothing else; the node
reads the Secret. The key never enters the sandbox, whose runtime is told the certificate.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

_DATA = "rules"
_REVISION = re.compile(r"[a-z0-9]{1,32}")


class Authority(msgspec.Struct, frozen=True):
    """Signs for the hosts of one sandbox's rules; that sandbox alone trusts it. PEM."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Authority(...)"


class Transform(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is done to a request."""

    headers: dict[str, str] | None = None

    def __repr__(self) -> str:
        return "Transform(...)"


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule of a host."""

    transform: Transform | None = None


class HeaderRules(msgspec.Struct, frozen=True):
    """One revision: the rules as the owner wrote them, and the authority."""

    rules: dict[str, list[Rule]]
    authority: Authority

    def __repr__(self) -> str:
        return f"HeaderRules({sorted(self.rules)})"

    @property
    def headers(self) -> dict[str, dict[str, str]]:
        """Host (as ``host_key`` writes it) → headers; hosts whose rules set none are left out."""
        found: dict[str, dict[str, str]] = {}
        for host, rules in self.rules.items():
            for rule in rules:
                if rule.transform is not None and rule.transform.headers:
                    found.setdefault(host_key(host), {}).update(rule.transform.headers)
        return found


def host_key(host: str) -> str:
    """Hosts are compared without case and final dot."""
    return host.lower().removesuffix(".")


def new_revision() -> str:
    """Names one set of rules; says nothing about them."""
    return secrets.token_hex(5)


def is_revision(text: str) -> bool:
    """Whether the text may be part of a Secret's name."""
    return _REVISION.fullmatch(text) is not None


def secret_name(sandbox: str, revision: str) -> str:
    """Name of the Secret in the sandbox's namespace."""
    return f"{sandbox}-rules-{revision}"


def to_data(rules: HeaderRules) -> dict[str, str]:
    """``data`` of the Secret."""
    return {_DATA: base64.b64encode(msgspec.json.encode(rules)).decode()}


def from_data(data: Mapping[str, Any]) -> HeaderRules:
    """From ``data`` of the Secret. Raises ``ValueError``, without its content, for anything else."""
    try:
        return msgspec.json.decode(base64.b64decode(data.get(_DATA, "")), type=HeaderRules)
    except (ValueError, msgspec.MsgspecError):
        raise ValueError(f"data.{_DATA}: expected base64 of a JSON object with rules and authority") from None
