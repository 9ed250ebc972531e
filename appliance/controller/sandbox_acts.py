"""The effects a Sandbox's decision can ask for, one method each; all safe to repeat."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from appliance.api import conditions, kinds, labels, times
from appliance.api.corestructs import Pod
from appliance.api.ids import access_token
from appliance.api.structs import Sandbox
from appliance.claims.header_rules import stored_rules
from appliance.claims.personalise import init_body, stored_environment
from appliance.controller import inplace, pod_body, pod_reading, shrinking
from appliance.controller.hooks import Hooks
from appliance.controller.revision import TemplateProblem
from appliance.controller.sandbox_plan import Act, Seen
from appliance.controller.template_source import effective, template_source
from appliance.controller.world import Key, World
from appliance.kube import errors

log = logging.getLogger(__name__)

_INIT_TIMEOUT = 5.0


class PodOwnerMismatch(TemplateProblem):
    """A pod of the sandbox's name is somebody else's, or an earlier sandbox's."""

    event = "PodOwnerMismatch"


@dataclass(frozen=True)
class Trouble:
    """Something about one sandbox that failed and is tried again at ``until`` (monotonic seconds)."""

    message: str
    delay: float
    until: float


def hook_step(sandbox: Sandbox) -> str:
    """Which hook's turn it is, by where the upgrade stands."""
    said = conditions.find(sandbox.status.conditions, conditions.UPGRADING)
    return "postUpgrade" if said is not None and said.reason == conditions.Reason.POST_UPGRADE else "preUpgrade"


def hook_name(sandbox: Sandbox, upgrade: str) -> str:
    """Names one run of that hook."""
    return f"{hook_step(sandbox)} {sandbox.uid} {upgrade}"


class SandboxActs:
    """Performs acts; remembers which incarnations of pods it has initialised."""

    def __init__(self, world: World, hooks: Hooks) -> None:
        self._world = world
        self._hooks = hooks
        self._initialised: dict[Key, str] = {}
        self._perform: dict[Act, Callable[[Seen], Awaitable[None]]] = {
            Act.CREATE_POD: self._create_pod,
            Act.DELETE_POD: self._delete_pod,
            Act.FREEZE: self._freeze,
            Act.SHRINK: self._shrink,
            Act.THAW: self._thaw,
            Act.HALT: self._halt,
            Act.INIT: self._init,
            Act.UPDATE_POD: self._update_pod,
            Act.PRE_UPGRADE: self._run_hook,
            Act.POST_UPGRADE: self._run_hook,
            Act.RELEASE: self._release,
        }

    async def perform(self, act: Act, seen: Seen) -> None:
        """Do it. Raises TemplateProblem, InitFailed (tried again later), KubeError."""
        await self._perform[act](seen)

    def initialised(self, sandbox: Sandbox, pod: Pod) -> bool:
        """Whether ``INIT`` was done for this run of this pod."""
        return self._initialised.get(sandbox.key) == pod_reading.incarnation(pod)

    def forget(self, key: Key) -> None:
        """The sandbox is gone."""
        self._initialised.pop(key, None)

    async def confirm_loss(self, sandbox: Sandbox) -> bool:
        """Whether the server agrees that there is no pod; if there is one, the cache learns of it."""
        try:
            pod = await self._world.cluster.get(kinds.POD, sandbox.namespace, sandbox.name)
        except errors.NotFound:
            return True
        self._world.pods.observe(pod)
        return self._world.pods.get(*sandbox.key) is None

    async def _create_pod(self, seen: Seen) -> None:
        sandbox, world = seen.sandbox, self._world
        source = await template_source(world, sandbox)
        body = pod_body.pod_body(
            sandbox,
            source.template,
            source.volume_claims,
            template_hash=source.hash,
            runtime_image=world.settings.runtime_image,
            runtimes=effective(world, sandbox).runtimes,
        )
        for claim in pod_body.claim_bodies(sandbox, source.volume_claims):
            try:
                await world.cluster.create(kinds.PVC, sandbox.namespace, claim)
            except errors.AlreadyExists:
                continue
        try:
            pod = await world.cluster.create(kinds.POD, sandbox.namespace, body)
        except errors.AlreadyExists:
            pod = await world.cluster.get(kinds.POD, sandbox.namespace, sandbox.name)
            if not pod_reading.owned_by(pod, sandbox.uid):
                raise PodOwnerMismatch(f"pod {pod.name} belongs to another owner; waiting for it to go") from None
        world.pods.observe(pod)

    async def _delete_pod(self, seen: Seen) -> None:
        pod = seen.pod
        if pod is None:
            return
        grace = None if seen.sandbox.meta.deletion_timestamp else pod_reading.stop_grace(pod)
        try:
            await self._world.cluster.delete(kinds.POD, pod.namespace, pod.name, uid=pod.uid, grace_seconds=grace)
        except (errors.NotFound, errors.Conflict):
            await self.confirm_loss(seen.sandbox)

    async def _run_hook(self, seen: Seen) -> None:
        sandbox, pod = seen.sandbox, seen.pod
        step, name = hook_step(sandbox), hook_name(sandbox, seen.upgrade)
        if pod is not None:
            hook = (sandbox.spec.lifecycle or {}).get(step) or {}
            self._hooks.start(sandbox.key, name, pod.status.pod_ip, self._token(sandbox), hook)

    async def _update_pod(self, seen: Seen) -> None:
        """Resources by the ``resize`` subresource first; the pod names the new revision once both are written."""
        pod, change, cluster = seen.pod, seen.change, self._world.cluster
        if pod is None or change is None:
            return
        try:
            if change.resources:
                patch = inplace.resize_patch(change, pod)
                pod = await self._resize(pod, patch)
            update = inplace.update_patch(change, pod, times.format(self._world.clock()))
            version = pod.meta.resource_version
            pod = await cluster.patch(kinds.POD, pod.namespace, pod.name, update, resource_version=version)
        except errors.Conflict:
            await self.confirm_loss(seen.sandbox)  # the pod moved on: look at it as it is now
            return
        except errors.NotFound:
            return
        self._world.pods.observe(pod)

    async def _resize(self, pod: Pod, patch: dict[str, Any]) -> Pod:
        version = pod.meta.resource_version
        try:
            return await self._world.cluster.patch(
                kinds.POD, pod.namespace, pod.name, patch, resource_version=version, subresource="resize"
            )
        except errors.NotFound:
            await self._world.cluster.get(kinds.POD, pod.namespace, pod.name)  # gone: NotFound again
            raise TemplateProblem("this cluster cannot resize running pods: Kubernetes 1.33 or later can") from None

    async def _freeze(self, seen: Seen) -> None:
        """Where no node can, the runtime does it; the annotation then records that it was done."""
        if not seen.freezer and seen.pod is not None:
            await self._world.runtime.freeze(seen.pod.status.pod_ip, self._token(seen.sandbox), timeout=_INIT_TIMEOUT)
        await self._ask(seen, "frozen")

    async def _shrink(self, seen: Seen) -> None:
        """Remember, then resize; a cluster that refuses is asked once."""
        pod, cluster = seen.pod, self._world.cluster
        if pod is None:
            return
        if labels.CPU_REQUESTS not in pod.meta.annotations:
            pod = await self._annotate(pod, shrinking.note(shrinking.reserved(pod)))
        frozen = dict.fromkeys(shrinking.originals(pod), shrinking.FROZEN)
        try:
            answer = await cluster.patch(
                kinds.POD, pod.namespace, pod.name, shrinking.resize_patch(pod, frozen), subresource="resize"
            )
            self._world.pods.observe(answer)
        except (errors.NotFound, errors.Invalid, errors.Forbidden) as error:
            log.info("pod %s/%s keeps its cpu request while it is frozen: %s", pod.namespace, pod.name, error)
            await self._annotate(pod, {labels.CPU_REQUESTS: shrinking.NOTHING})

    async def _grow(self, pod: Pod) -> None:
        """The cpu request of a pod that is about to be thawed; the node may take its time with it."""
        kept = shrinking.originals(pod)
        if not kept:
            return
        patch = shrinking.resize_patch(pod, kept)
        try:
            answer = await self._world.cluster.patch(kinds.POD, pod.namespace, pod.name, patch, subresource="resize")
            self._world.pods.observe(answer)
        except (errors.NotFound, errors.Invalid, errors.Forbidden) as error:
            log.warning("pod %s/%s does not get its cpu request back: %s", pod.namespace, pod.name, error)

    async def _annotate(self, pod: Pod, annotations: dict[str, Any]) -> Pod:
        patch = {"metadata": {"uid": pod.uid, "annotations": annotations}}
        answer = await self._world.cluster.patch(kinds.POD, pod.namespace, pod.name, patch)
        self._world.pods.observe(answer)
        return answer

    async def _thaw(self, seen: Seen) -> None:
        if not seen.freezer and seen.pod is not None:
            await self._grow(seen.pod)
            await self._world.runtime.unfreeze(seen.pod.status.pod_ip, self._token(seen.sandbox), timeout=_INIT_TIMEOUT)
        await self._ask(seen, "running")

    async def _halt(self, seen: Seen) -> None:
        await self._ask(seen, "halted")

    async def _ask(self, seen: Seen, state: str) -> None:
        if seen.pod is not None:
            forget = {labels.CPU_REQUESTS: None} if state == "running" else {}
            await self._annotate(seen.pod, {labels.DESIRED_STATE: state, **forget})

    async def _init(self, seen: Seen) -> None:
        sandbox, pod = seen.sandbox, seen.pod
        if pod is None:
            return
        sandbox_id = sandbox.meta.labels.get(labels.SANDBOX_ID, "")
        wanted = sandbox.meta.annotations.get(labels.SHOULD_INIT_ENVD) != "false"
        if sandbox_id and wanted and pod_body.wants_runtime({"spec": {"containers": pod.spec.containers}}):
            env = await stored_environment(self._world.cluster, sandbox)
            token = self._token(sandbox)
            rules = await stored_rules(self._world.cluster, sandbox)
            body = init_body(token, env, sandbox, sandbox_id, rules)
            await self._world.runtime.init(pod.status.pod_ip, body, token, timeout=_INIT_TIMEOUT)
        self._initialised[sandbox.key] = pod_reading.incarnation(pod)

    def _token(self, sandbox: Sandbox) -> str | None:
        sandbox_id = sandbox.meta.labels.get(labels.SANDBOX_ID)
        if not sandbox_id or sandbox.meta.annotations.get(labels.SECURE) == "false":
            return None
        return access_token(self._world.seed, sandbox_id)

    async def _release(self, seen: Seen) -> None:
        sandbox = seen.sandbox
        kept = [name for name in sandbox.meta.finalizers if name != labels.FINALIZER_SANDBOX]
        patch = {"metadata": {"finalizers": kept}}
        try:
            answer = await self._world.cluster.patch(
                kinds.SANDBOX,
                sandbox.namespace,
                sandbox.name,
                patch,
                resource_version=sandbox.meta.resource_version,
            )
        except errors.NotFound:
            return
        if not answer.meta.deletion_timestamp or kept:
            self._world.sandboxes.observe(answer)
