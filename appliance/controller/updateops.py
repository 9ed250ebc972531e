"""SandboxUpdateOps: one change of many claimed sandboxes, a few at a time.

A sandbox is begun with one guarded patch that gives it a template of its own (and the policy and hooks of the
operation); its own controller does the rest, and what it says in the conditions is all that is looked at here. A paused
sandbox is resumed for it and paused again, except a stopped one without hooks: its next pod simply has the new
template.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from appliance.api import kinds, labels
from appliance.api.conditions import Phase
from appliance.api.structs import Sandbox, SandboxUpdateOps, SandboxUpdateOpsStatus
from appliance.claims.updating import own_template
from appliance.controller import updateops_plan
from appliance.controller.condition_list import as_json
from appliance.controller.template_patch import merge_patch, patched
from appliance.controller.updateops_plan import OpsPlan, Target
from appliance.controller.upgrade_plan import RECREATE
from appliance.controller.world import Key, World
from appliance.kube import errors
from appliance.kube.label_selector import matches
from appliance.kube.workqueue import Requeue, WorkQueue

_COALESCE = 0.2
"""Seconds that news of sandboxes are gathered."""
_ENDED = ("Completed", "Failed")


class SandboxUpdateOpsController:
    """Subscribe it before the informers run, then run its ``queue``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.queue: WorkQueue[Key] = WorkQueue(self.reconcile, workers=1, name="sandboxupdateops", backoff_max=30.0)
        world.operations.subscribe(self._on_operation)
        world.sandboxes.subscribe(self._on_sandbox)

    def _on_operation(self, old: SandboxUpdateOps | None, new: SandboxUpdateOps | None) -> None:
        item = new or old
        if item is not None:
            self._wake(item.namespace)

    def _on_sandbox(self, old: Sandbox | None, new: Sandbox | None) -> None:
        item = new or old
        if item is not None and self._world.operations.items():
            self._wake(item.namespace)

    def _wake(self, namespace: str) -> None:
        for operation in list(self._world.operations.items()):
            if operation.namespace == namespace and (not _ended(operation) or operation.meta.deletion_timestamp):
                self.queue.add_after(operation.key, _COALESCE)

    async def reconcile(self, key: Key) -> Requeue | None:
        """One step. Raises KubeError (the queue tries again)."""
        ops = self._world.operations.get(*key)
        if ops is None:
            return None
        if ops.meta.deletion_timestamp:
            await self._release(ops)
            return None
        if _ended(ops):
            return None
        if labels.FINALIZER_UPDATE_OPS not in ops.meta.finalizers:
            ops = await self._set_finalizers(ops, [*ops.meta.finalizers, labels.FINALIZER_UPDATE_OPS])
        plan = self._plan(ops)
        await asyncio.gather(*(self._begin(ops, target) for target in plan.begin))
        await asyncio.gather(*(self._finish(target) for target in plan.finish))
        await asyncio.gather(*(self._mark(target) for target in plan.mark_failed))
        await self._write(ops, plan.status)
        return None

    def _plan(self, ops: SandboxUpdateOps) -> OpsPlan:
        now = self._world.clock()
        try:
            problem = updateops_plan.invalid(ops)
            return (
                updateops_plan.refused(ops, problem, now)
                if problem
                else updateops_plan.decide(ops, self._targets(ops), now, busy=self._others(ops))
            )
        except ValueError as error:
            return updateops_plan.refused(ops, str(error), now)

    def _others(self, ops: SandboxUpdateOps) -> frozenset[str]:
        """Operations of the namespace that are not at their end: what they have taken is theirs."""
        items = self._world.operations.items()
        return frozenset(
            one.name for one in items if one.namespace == ops.namespace and one.name != ops.name and not _ended(one)
        )

    def _targets(self, ops: SandboxUpdateOps) -> Iterable[Target]:
        """Raises ValueError for a selector or patch that cannot be read."""
        of_ours = matches(ops.spec.selector)
        for sandbox in list(self._world.sandboxes.items()):
            if sandbox.namespace != ops.namespace:
                continue
            mine = sandbox.meta.labels.get(labels.UPDATE_OPS) == ops.name
            if not (mine or of_ours(sandbox.meta.labels)) or not updateops_plan.chosen(ops, sandbox):
                continue
            template = self._template(sandbox)
            if template:
                yield Target(sandbox, template, patched(template, ops.spec.patch or {}))

    def _template(self, sandbox: Sandbox) -> Mapping[str, Any]:
        spec = sandbox.spec
        if spec.template is not None:
            return spec.template
        found = self._world.templates.get(sandbox.namespace, spec.template_ref.name) if spec.template_ref else None
        return (found.spec.template or {}) if found is not None else {}

    # Act ------------------------------------------------------------------------------------------------------------

    async def _begin(self, ops: SandboxUpdateOps, target: Target) -> None:
        sandbox = target.sandbox
        meta: dict[str, Any] = {"labels": {labels.UPDATE_OPS: ops.name, labels.UPGRADE_FAILED: None}}
        if updateops_plan.to_resume(ops, sandbox):
            resumed = {**meta, "annotations": {labels.UPGRADE_RESUME: ops.name}}
            await self._patch(sandbox, {"metadata": resumed, "spec": {"paused": False}})
            return
        spec = self._own(sandbox, target.wanted)
        if sandbox.status.phase != Phase.PAUSED:
            spec["upgradePolicy"] = None if updateops_plan.in_place(ops) else {"type": RECREATE}
            if ops.spec.lifecycle is not None:
                spec["lifecycle"] = merge_patch(sandbox.spec.lifecycle or {}, ops.spec.lifecycle)
        await self._patch(sandbox, {"metadata": meta, "spec": spec})

    def _own(self, sandbox: Sandbox, wanted: Mapping[str, Any]) -> dict[str, Any]:
        reference = sandbox.spec.template_ref
        found = self._world.templates.get(sandbox.namespace, reference.name) if reference is not None else None
        if found is not None:
            return own_template(found, wanted)
        return {"template": merge_patch(sandbox.spec.template or {}, wanted)}

    async def _finish(self, target: Target) -> None:
        again = labels.UPGRADE_RESUME in target.sandbox.meta.annotations
        meta = {"labels": {labels.UPGRADE_FAILED: None}, "annotations": {labels.UPGRADE_RESUME: None}}
        spec = {"upgradePolicy": None, **({"paused": True} if again else {})}
        await self._patch(target.sandbox, {"metadata": meta, "spec": spec})

    async def _mark(self, target: Target) -> None:
        await self._patch(target.sandbox, {"metadata": {"labels": {labels.UPGRADE_FAILED: "true"}}})

    async def _patch(self, sandbox: Sandbox, patch: dict[str, Any]) -> None:
        """Guarded: of a sandbox that changed meanwhile there is news, which brings us back."""
        try:
            answer = await self._world.cluster.patch(
                kinds.SANDBOX, sandbox.namespace, sandbox.name, patch, resource_version=sandbox.meta.resource_version
            )
        except (errors.Conflict, errors.NotFound):
            return
        self._world.sandboxes.observe(answer)

    async def _release(self, ops: SandboxUpdateOps) -> None:
        """The operation is deleted: its labels go, what it has begun is carried on by the sandboxes themselves."""
        if labels.FINALIZER_UPDATE_OPS not in ops.meta.finalizers:
            return
        for sandbox in list(self._world.sandboxes.items()):
            if sandbox.namespace == ops.namespace and sandbox.meta.labels.get(labels.UPDATE_OPS) == ops.name:
                gone = {"labels": {labels.UPDATE_OPS: None, labels.UPGRADE_FAILED: None}}
                patch = {"metadata": {**gone, "annotations": {labels.UPGRADE_RESUME: None}}}
                try:
                    answer = await self._world.cluster.patch(kinds.SANDBOX, sandbox.namespace, sandbox.name, patch)
                except errors.NotFound:
                    continue
                self._world.sandboxes.observe(answer)
        await self._set_finalizers(ops, [one for one in ops.meta.finalizers if one != labels.FINALIZER_UPDATE_OPS])

    async def _set_finalizers(self, ops: SandboxUpdateOps, finalizers: list[str]) -> SandboxUpdateOps:
        patch = {"metadata": {"finalizers": finalizers}}
        version = ops.meta.resource_version
        answer = await self._world.cluster.patch(
            kinds.SANDBOXUPDATEOPS, ops.namespace, ops.name, patch, resource_version=version
        )
        if finalizers or not answer.meta.deletion_timestamp:
            self._world.operations.observe(answer)
        return answer

    async def _write(self, ops: SandboxUpdateOps, wanted: SandboxUpdateOpsStatus) -> None:
        if wanted == ops.status:
            return
        patch = {"metadata": {"uid": ops.uid}, "status": _as_json(wanted)}
        answer = await self._world.cluster.patch(
            kinds.SANDBOXUPDATEOPS, ops.namespace, ops.name, patch, subresource="status"
        )
        self._world.operations.observe(answer)


def _ended(ops: SandboxUpdateOps) -> bool:
    return ops.status.phase in _ENDED and ops.status.observed_generation >= ops.meta.generation


def _as_json(status: SandboxUpdateOpsStatus) -> dict[str, Any]:
    return {
        "observedGeneration": status.observed_generation,
        "phase": status.phase,
        "replicas": status.replicas,
        "updatedReplicas": status.updated_replicas,
        "failedReplicas": status.failed_replicas,
        "updatingReplicas": status.updating_replicas,
        "conditions": as_json(status.conditions),
    }
