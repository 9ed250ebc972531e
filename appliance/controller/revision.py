"""What a pool's members are made of, boiled down to a name.

A revision is the effective template of a SandboxSet (its own, or the referenced SandboxTemplate's). Its hash is
FNV-32a over canonical JSON, written with Kubernetes' safe alphabet, as ReplicaSets and the existing system do: short,
a valid label value, and no word by accident.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from appliance.api import labels
from appliance.api.structs import RuntimeRef, SandboxSet, SandboxTemplate

_SAFE = "bcdfghjklmnpqrstvwxz2456789"


class TemplateProblem(Exception):
    """A set or sandbox names no usable template; the message says which field and what was expected."""

    event = "InvalidTemplate"
    """Reason of the Event that tells it."""


@dataclass(frozen=True)
class Revision:
    """One version of a set's template."""

    hash: str
    template: str
    """Name of the SandboxTemplate that holds it."""
    spec: dict[str, Any]
    """Body of that SandboxTemplate's spec."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the pod template; members inherit its labels and annotations."""
        return (self.spec.get("template") or {}).get("metadata") or {}


def effective_spec(owner: SandboxSet, referenced: SandboxTemplate | None) -> dict[str, Any]:
    """The SandboxTemplate spec that ``owner`` stands for; ``referenced`` is what its templateRef names.

    Fields of the set win over those of the referenced template. Raises TemplateProblem.
    """
    spec = owner.spec
    if spec.template is not None and spec.template_ref is not None:
        raise TemplateProblem("spec.template and spec.templateRef: expected exactly one, got both")
    if spec.template_ref is not None and referenced is None:
        raise TemplateProblem(f"spec.templateRef.name: SandboxTemplate {spec.template_ref.name!r} does not exist")
    if problem := unknown_runtime(spec.runtimes):
        raise TemplateProblem(problem)
    base = referenced.spec if referenced is not None else None
    template = spec.template if base is None else base.template
    if not template:
        raise TemplateProblem("spec.template or spec.templateRef: expected exactly one, got none")
    full = {
        "template": template,
        "volumeClaimTemplates": spec.volume_claim_templates or (base.volume_claim_templates if base else []),
        "persistentContents": spec.persistent_contents or (base.persistent_contents if base else []),
        "runtimes": msgspec.to_builtins(spec.runtimes or (base.runtimes if base else [])),
        "pauseStrategy": msgspec.to_builtins(spec.pause_strategy or (base.pause_strategy if base else None)),
    }
    return {key: value for key, value in full.items() if value}


def unknown_runtime(runtimes: Sequence[RuntimeRef]) -> str:
    """Names the first of ``spec.runtimes`` that does not exist here; empty when all do."""
    for number, runtime in enumerate(runtimes):
        if runtime.name != labels.AGENT_RUNTIME:
            return f"spec.runtimes[{number}].name: expected {labels.AGENT_RUNTIME}, got {runtime.name!r}"
    return ""


def make_revision(owner: SandboxSet, referenced: SandboxTemplate | None, salt: int = 0) -> Revision:
    """The current revision of a set. ``salt`` tells apart different templates that share a hash."""
    spec = effective_spec(owner, referenced)
    short = hash_of(spec, salt)
    return Revision(short, f"{owner.name[:52]}-{short}", spec)


def hash_of(value: Any, salt: int = 0) -> str:
    """Safe-encoded FNV-32a of canonical JSON (sorted keys, no spaces)."""
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    number = fnv32a(data + (b"#%d" % salt if salt else b""))
    return "".join(_SAFE[byte % len(_SAFE)] for byte in str(number).encode())


@lru_cache(maxsize=256)
def fnv32a(data: bytes) -> int:
    """The 32-bit FNV-1a hash."""
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value
