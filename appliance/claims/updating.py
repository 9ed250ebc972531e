"""A claim that wants another image or other resources than its template gives: the in-place update.

The sandbox is taken with a pod template of its own, a copy of its revision's with the change, in the same guarded
write; the controller then changes the running pod. Here is the copy (``updated``, pure) and the wait for the controller
to tell that it succeeded, or failed and why. A claim that asks for what the template gives already stays a plain one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from appliance.api import conditions, kinds, labels
from appliance.api.conditions import INPLACE_UPDATE, READY, Phase, Reason
from appliance.api.quantities import quantity
from appliance.api.structs import Sandbox, SandboxTemplate
from appliance.claims.errors import SandboxFailed, UpdateFailed
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer

MAIN_CONTAINER = "sandbox"
"""The container that an update is for, if there is one of that name; else the first."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What a claim wants changed: the image, and amounts of cpu and memory.

    Where request and limit were equal they stay so unless both are given: the pod's quality of service cannot change
    while it runs.
    """

    image: str = ""
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"image {self.image!r}"] if self.image else []
        parts += [f"{name} request {value}" for name, value in sorted(self.requests.items())]
        parts += [f"{name} limit {value}" for name, value in sorted(self.limits.items())]
        return ", ".join(parts)


def updated(template: Mapping[str, Any], update: Update) -> dict[str, Any]:
    """A copy of a PodTemplateSpec with the update; equal to it when there is nothing to change."""
    result = copy.deepcopy(dict(template))
    containers = (result.get("spec") or {}).get("containers") or []
    if not containers:
        return result
    container = next((item for item in containers if item.get("name") == MAIN_CONTAINER), containers[0])
    if update.image and container.get("image") != update.image:
        container["image"] = update.image
        notes = result.setdefault("metadata", {}).setdefault("annotations", {})
        notes[labels.CHOSEN_IMAGE] = str(container.get("name"))
    if update.requests or update.limits:
        resources = _resources(container.get("resources") or {}, update)
        if resources != (container.get("resources") or {}):
            container["resources"] = resources
    return result


def _resources(present: Mapping[str, Any], update: Update) -> dict[str, Any]:
    limits = dict(present.get("limits") or {})
    requests = dict(present.get("requests") or {})
    for name in sorted({*update.requests, *update.limits}):
        request, limit = update.requests.get(name), update.limits.get(name)
        if name in limits and _equal(requests.get(name, limits[name]), limits[name]):
            request, limit = request or limit, limit or request
        if limit is not None:
            _put(limits, name, limit)
        if request is not None and (name in requests or not _equal(request, limits.get(name))):
            _put(requests, name, request)  # one that is missing is the limit
    return {**present, **({"requests": requests} if requests else {}), **({"limits": limits} if limits else {})}


def _put(amounts: dict[str, Any], name: str, value: str) -> None:
    """Unless the same amount is there, perhaps spelled otherwise."""
    if name not in amounts or not _equal(amounts[name], value):
        amounts[name] = value


def _equal(one: object, other: object) -> bool:
    try:
        return quantity(str(one)) == quantity(str(other))
    except ValueError:
        return False


class Updater:
    """Makes diverged templates and waits for updates to be carried out."""

    def __init__(self, cluster: Cluster, sandboxes: Informer[Sandbox], *, timeout: float) -> None:
        """``timeout``: seconds for an update, unless the request says otherwise."""
        self._cluster = cluster
        self._sandboxes = sandboxes
        self._timeout = timeout

    async def divergence(self, namespace: str, template: str, update: Update) -> dict[str, Any]:
        """What to merge into the spec of a sandbox of that SandboxTemplate; empty when it is as wanted already.

        Raises KubeError.
        """
        found = await self._cluster.get(kinds.SANDBOXTEMPLATE, namespace, template)
        return diverged_spec(found, update)

    async def settle(self, sandbox: Sandbox, update: Update, timeout: float | None) -> Sandbox:
        """Wait until the controller has carried out the update that ``sandbox`` (a write's answer) asks for.

        Raises UpdateFailed, SandboxFailed.
        """
        limit = timeout or self._timeout
        generation = sandbox.meta.generation

        def answered(found: Sandbox | None) -> bool:
            return found is None or found.uid != sandbox.uid or _answered(found, generation)

        try:
            found = await self._sandboxes.wait_for(sandbox.namespace, sandbox.name, answered, limit)
        except TimeoutError as error:
            last = self._sandboxes.get(sandbox.namespace, sandbox.name)
            why = f": {last.status.message}" if last is not None and last.status.message else ""
            raise UpdateFailed(f"{update} was not in force within {limit:g} s{why}", timed_out=True) from error
        if found is None or found.uid != sandbox.uid or found.meta.deletion_timestamp:
            raise SandboxFailed(f"sandbox {sandbox.name} was deleted while it was updated")
        if found.status.phase in (Phase.FAILED, Phase.SUCCEEDED):
            raise UpdateFailed(f"{update}: {found.status.message or 'the sandbox ended'}")
        said = conditions.find(found.status.conditions, INPLACE_UPDATE)
        if said is not None and said.status != "True":
            raise UpdateFailed(f"{update}: {said.message}")
        return found


def diverged_spec(found: SandboxTemplate, update: Update) -> dict[str, Any]:
    """The merge patch of a Sandbox's spec that gives it a template of its own; empty when that would be the same."""
    template = found.spec.template or {}
    wanted = updated(template, update)
    return {} if wanted == template else own_template(found, wanted)


def own_template(found: SandboxTemplate, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that gives ``wanted`` to a Sandbox in place of its reference to ``found``, and loses nothing."""
    spec = found.spec
    kept = {
        "volumeClaimTemplates": spec.volume_claim_templates,
        "pauseStrategy": msgspec.to_builtins(spec.pause_strategy),
        "persistentContents": spec.persistent_contents,
        "runtimes": msgspec.to_builtins(spec.runtimes),
    }
    return {"template": dict(wanted), "templateRef": None, **{key: value for key, value in kept.items() if value}}


def _answered(sandbox: Sandbox, generation: int) -> bool:
    status = sandbox.status
    if sandbox.meta.deletion_timestamp or status.phase in (Phase.FAILED, Phase.SUCCEEDED):
        return True
    said = conditions.find(status.conditions, INPLACE_UPDATE)
    if status.observed_generation < generation or said is None:
        return False
    if said.status != "True":
        return said.reason in (Reason.FAILED, Reason.FORBIDDEN)
    return status.phase == Phase.RUNNING and conditions.is_true(status.conditions, READY)


def start_failure(sandbox: Sandbox) -> str:
    """Why a new sandbox does not start, when that is not going to pass by waiting; empty otherwise."""
    said = conditions.find(sandbox.status.conditions, READY)
    return said.message if said is not None and said.reason == Reason.START_CONTAINER_FAILED else ""
