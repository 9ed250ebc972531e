"""CPU, memory and disk of a sandbox, from its pod template's limits.

A sandbox of a pool refers to a template revision instead of embedding it; both forms are resolved here, from caches.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from appliance.api import labels
from appliance.api.quantities import quantity
from appliance.api.structs import Sandbox, SandboxSet, SandboxTemplate
from appliance.kube.errors import KubeError
from appliance.kube.informer import Informer

INTERVAL = 60.0
"""Seconds between two looks at what the nodes give."""
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Sizes:
    """What the E2B API reports; 0 stands for "no limit set"."""

    cpu_count: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    layer_mb: int = 0
    """Of ``disk_mb`` what containers may write; 0: the template leaves it to the node."""

    def on(self, layer_mb: int) -> Sizes:
        """With the layer that the nodes give a sandbox whose template names none."""
        return self if self.layer_mb else replace(self, disk_mb=self.disk_mb + layer_mb, layer_mb=layer_mb)


def sizes_of(template: Mapping[str, Any] | None, claims: Iterable[Mapping[str, Any]] = ()) -> Sizes:
    """Sizes of a pod template: limits of all containers, else requests; disk includes volume claim templates."""
    spec = (template or {}).get("spec") or {}
    containers = spec.get("containers") or []
    cpu = sum((_limit(one, "cpu") for one in containers), Decimal(0))
    memory = sum((_limit(one, "memory") for one in containers), Decimal(0))
    disk = sum((_limit(one, "ephemeral-storage") for one in containers), Decimal(0))
    layer = int(disk // _MIB)
    for claim in claims:
        disk += _read(((claim.get("spec") or {}).get("resources") or {}).get("requests"), "storage")
    return Sizes(cpu_count=math.ceil(cpu), memory_mb=int(memory // _MIB), disk_mb=int(disk // _MIB), layer_mb=layer)


def _limit(container: Mapping[str, Any], resource: str) -> Decimal:
    resources = container.get("resources") or {}
    return _read(resources.get("limits"), resource) or _read(resources.get("requests"), resource)


def _read(quantities: Mapping[str, Any] | None, resource: str) -> Decimal:
    """One quantity; what cannot be read counts as absent, since somebody else wrote it."""
    value = (quantities or {}).get(resource)
    if value is None:
        return Decimal(0)
    try:
        return quantity(str(value))
    except ValueError:
        return Decimal(0)


class Sizer:
    """Resolves sizes of sandboxes and sets through the template informers, remembering each revision's."""

    def __init__(self, sets: Informer[SandboxSet], templates: Informer[SandboxTemplate]) -> None:
        self._sets = sets
        self._templates = templates
        self._known: dict[tuple[str, str], tuple[str, Sizes]] = {}
        self._layer_mb = 0

    async def measure(self, ask: Callable[[], Awaitable[int]]) -> None:
        """Learn what the nodes give where a template names no disk; what cannot be asked stays as it was."""
        with suppress(KubeError):
            self._layer_mb = await ask()

    async def keep(self, ask: Callable[[], Awaitable[int]]) -> None:
        """Learn it again from time to time, for ever: requests never wait for it."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.measure(ask)

    def of_sandbox(self, sandbox: Sandbox) -> Sizes:
        """Sizes of a sandbox: its own template, the one it refers to, or its set's."""
        return self._of_sandbox(sandbox).on(self._layer_mb)

    def of_set(self, pool: SandboxSet) -> Sizes:
        """Sizes of what a set makes now."""
        return self._of_set(pool).on(self._layer_mb)

    def _of_sandbox(self, sandbox: Sandbox) -> Sizes:
        spec = sandbox.spec
        if spec.template is not None:
            return sizes_of(spec.template, spec.volume_claim_templates)
        if spec.template_ref is not None:
            return self._referred(sandbox.namespace, spec.template_ref.name, spec.volume_claim_templates)
        pool = self._sets.get(sandbox.namespace, sandbox.meta.labels.get(labels.POOL, ""))
        return Sizes() if pool is None else self._of_set(pool)

    def _of_set(self, pool: SandboxSet) -> Sizes:
        spec = pool.spec
        if spec.template is not None:
            return sizes_of(spec.template, spec.volume_claim_templates)
        if spec.template_ref is None:
            return Sizes()
        return self._referred(pool.namespace, spec.template_ref.name, spec.volume_claim_templates)

    def _referred(self, namespace: str, name: str, claims: list[dict[str, Any]]) -> Sizes:
        template = self._templates.get(namespace, name)
        if template is None:
            return Sizes()
        version, known = self._known.get((namespace, name), ("", Sizes()))
        if version != template.meta.resource_version:
            if len(self._known) > 4096:
                self._known.clear()
            known = sizes_of(template.spec.template, claims or template.spec.volume_claim_templates)
            self._known[namespace, name] = (template.meta.resource_version, known)
        return known
