"""Where a sandbox's pod template comes from: its own spec, or the SandboxTemplate it refers to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.api import kinds, labels
from appliance.api.corestructs import Pod
from appliance.api.structs import Sandbox, SandboxSpec, SandboxTemplate
from appliance.controller.inplace import Change, change_of
from appliance.controller.revision import TemplateProblem, hash_of
from appliance.controller.world import World
from appliance.kube import errors


class TemplateMissing(TemplateProblem):
    """The SandboxTemplate does not exist (yet)."""

    event = "TemplateMissing"


@dataclass(frozen=True)
class Source:
    """What a pod is built from."""

    template: dict[str, Any]
    volume_claims: Sequence[dict[str, Any]]
    hash: str


async def template_source(world: World, sandbox: Sandbox) -> Source:
    """Resolve. Raises TemplateMissing, TemplateProblem, KubeError."""
    spec = sandbox.spec
    if spec.template is not None and spec.template_ref is not None:
        raise TemplateProblem("spec.template and spec.templateRef: expected exactly one, got both")
    claims: Sequence[dict[str, Any]] = spec.volume_claim_templates
    template = spec.template
    if spec.template_ref is not None:
        found = await _referenced(world, sandbox.namespace, spec.template_ref.name)
        template, claims = found.spec.template, claims or found.spec.volume_claim_templates
    if not template:
        raise TemplateProblem("spec.template or spec.templateRef: expected exactly one, got none")
    known = sandbox.meta.labels.get(labels.TEMPLATE_HASH) if spec.template_ref is not None else None
    return Source(template, claims, known or hash_of(template))


def change(world: World, sandbox: Sandbox, pod: Pod) -> Change | None:
    """What the pod lacks of the template the sandbox names now, as far as that is known here."""
    spec = sandbox.spec
    if spec.template is not None:
        return change_of(spec.template, hash_of(spec.template), pod)
    found = world.templates.get(sandbox.namespace, spec.template_ref.name) if spec.template_ref is not None else None
    if found is None or not found.spec.template:
        return None
    wanted = found.meta.labels.get(labels.TEMPLATE_HASH) or sandbox.meta.labels.get(labels.TEMPLATE_HASH)
    return change_of(found.spec.template, wanted or hash_of(found.spec.template), pod)


def upgrade_name(world: World, sandbox: Sandbox) -> str:
    """Names the upgrade that the sandbox's template and hooks ask for."""
    spec = sandbox.spec
    found = world.templates.get(sandbox.namespace, spec.template_ref.name) if spec.template_ref is not None else None
    template = spec.template or (found.spec.template if found is not None else None)
    return upgrade_hash(template, spec.lifecycle)


def upgrade_hash(template: Mapping[str, Any] | None, lifecycle: Mapping[str, Any] | None) -> str:
    """The same from its parts."""
    return hash_of([template, lifecycle or {}])


def effective(world: World, sandbox: Sandbox) -> SandboxSpec:
    """The sandbox's spec; how it is paused and what is injected, when it does not say, is what its template says."""
    spec = sandbox.spec
    found = world.templates.get(sandbox.namespace, spec.template_ref.name) if spec.template_ref is not None else None
    if found is None:
        return spec
    return msgspec.structs.replace(
        spec,
        pause_strategy=spec.pause_strategy or found.spec.pause_strategy,
        persistent_contents=spec.persistent_contents or found.spec.persistent_contents,
        runtimes=spec.runtimes or found.spec.runtimes,
    )


async def _referenced(world: World, namespace: str, name: str) -> SandboxTemplate:
    cached = world.templates.get(namespace, name)
    if cached is not None:
        return cached
    try:
        found = await world.cluster.get(kinds.SANDBOXTEMPLATE, namespace, name)
    except errors.NotFound as error:
        raise TemplateMissing(f"spec.templateRef.name: SandboxTemplate {name!r} does not exist") from error
    world.templates.observe(found)
    return found
