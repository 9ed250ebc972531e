"""Sandbox: one pod, its phases, its timers, its pauses.

A reconcile looks, decides (``sandbox_plan``), acts and looks again until nothing is left to do at once, then writes
the status if it is news. Timers come first and apply to every phase. Everything here can be interrupted at any point
and repeated: what must be remembered is on the objects, what is only in memory is safe to do twice.
"""

from __future__ import annotations

import logging
import time

import msgspec

from appliance.api import conditions, kinds, labels
from appliance.api.conditions import Phase, Reason
from appliance.api.corestructs import Node, Pod
from appliance.api.structs import Sandbox, SandboxStatus, SandboxTemplate
from appliance.claims.errors import InitFailed
from appliance.controller import indexes, inplace, node_reading, pod_reading
from appliance.controller.announcing import news
from appliance.controller.hooks import Hooks
from appliance.controller.revision import TemplateProblem
from appliance.controller.sandbox_acts import SandboxActs, Trouble, hook_name
from appliance.controller.sandbox_plan import Act, Seen, decide
from appliance.controller.sandbox_status import SandboxStatusWriter
from appliance.controller.template_source import change, effective, upgrade_name
from appliance.controller.timers import Stroke, due, pause_patch
from appliance.controller.world import Key, World
from appliance.kube import errors
from appliance.kube.workqueue import Requeue, WorkQueue

log = logging.getLogger(__name__)

_STEPS = 4
"""Looks per reconcile; a decision that still wants something after these is continued by the queue."""
_RETRY_FIRST = 1.0
_RETRY_MAX = 30.0
_FAILURE_EVENTS = {Act.CREATE_POD: "PodCreateFailed", Act.UPDATE_POD: "InplaceUpdateFailed"}
_UPDATE_EVENTS = {
    Reason.FORBIDDEN: "InplaceUpdateForbidden",
    Reason.FAILED: "InplaceUpdateFailed",
    Reason.SUCCEEDED: "InplaceUpdateSucceeded",
}
_UPGRADE_EVENTS = {
    Reason.NOT_SUPPORTED: "UpgradeNotSupported",
    Reason.PRE_UPGRADE_FAILED: "PreUpgradeFailed",
    Reason.UPGRADE_POD_FAILED: "UpgradePodFailed",
    Reason.POST_UPGRADE_FAILED: "PostUpgradeFailed",
    Reason.SUCCEEDED: "UpgradeSucceeded",
}
_ANSWERED = 0.02
"""Seconds that a delivered sandbox is left alone: its claim is not answered yet, and there is only its status to do."""
_TIMER_MAX = 3600.0
"""Seconds after which a far timer is looked at again."""


class SandboxController:
    """Subscribe it before the informers run, then run its ``queue``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.queue: WorkQueue[Key] = WorkQueue(
            self.reconcile, workers=world.settings.workers, name="sandbox", backoff_max=30.0
        )
        self.hooks = Hooks(self.queue.add)
        self._acts = SandboxActs(world, self.hooks)
        self._status = SandboxStatusWriter(world)
        self._troubles: dict[Key, Trouble] = {}
        self._farewells: dict[Key, str] = {}
        world.sandboxes.subscribe(self._on_sandbox)
        world.pods.subscribe(self._on_pod)
        world.templates.subscribe(self._on_template)
        world.nodes.subscribe(self._on_node)

    # Observe --------------------------------------------------------------------------------------------------------

    def _on_sandbox(self, old: Sandbox | None, new: Sandbox | None) -> None:
        item = new or old
        if item is not None and _delivered(old, new):
            self.queue.add_after(item.key, _ANSWERED)
        elif item is not None:
            self.queue.add(item.key)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        """Only what a sandbox can show wakes it; most pod updates change nothing of that."""
        if new is None and old is not None and (why := pod_reading.disruption(old)):
            self._farewells[old.key] = why  # a pod without grace is gone before anybody looks
        elif new is not None and old is None:
            self._farewells.pop(new.key, None)
        item = new or old
        if item is not None and (old is None or new is None or _telling(old) != _telling(new)):
            self.queue.add(item.key)

    def _on_template(self, old: SandboxTemplate | None, new: SandboxTemplate | None) -> None:
        """A template that appears is what its sandboxes were waiting for."""
        if old is None and new is not None:
            for user in self._world.sandboxes.by_index(indexes.TEMPLATE_USERS, f"{new.namespace}/{new.name}"):
                if user.key in self._troubles:
                    self._troubles.pop(user.key)
                    self.queue.add(user.key)

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        """A freezer that appears or goes decides how a pause in progress is carried out; a silent node is told of."""
        before, after = (_bearing(item) if item is not None else None for item in (old, new))
        if old is not None and before != after:
            for pod in list(self._world.pods.items()):
                if pod.spec.node_name == old.name:
                    self.queue.add(pod.key)

    # Reconcile ------------------------------------------------------------------------------------------------------

    async def reconcile(self, key: Key) -> Requeue | None:
        """One round. Raises KubeError (the queue tries again)."""
        sandbox = self._world.sandboxes.get(*key)
        if sandbox is None:
            self._forget(key)
            return None
        timer = due(sandbox, self._world.clock())
        if timer.stroke is not None and not sandbox.meta.deletion_timestamp:
            await self._strike(sandbox, timer.stroke)
            return None
        confirmed = False
        for _ in range(_STEPS):
            sandbox = self._world.sandboxes.get(*key)
            if sandbox is None:
                return None
            seen = self._look(sandbox, confirmed)
            decision = decide(seen)
            act = decision.acts[0] if decision.acts else None
            if act is None or self._resting(key):
                break
            if act is Act.CONFIRM_LOSS:
                confirmed = await self._acts.confirm_loss(sandbox)
                continue
            await self._try(act, seen, key)
        wanted = msgspec.structs.replace(decision.status, observed_generation=sandbox.meta.generation)
        self._tell_update(sandbox, wanted)
        wait = await self._status.write(sandbox, wanted)
        if wait is None and (told := news(sandbox.status, wanted)) is not None:
            self._world.events.say(kinds.SANDBOX, sandbox, told.reason, told.message, warning=told.warning)
        return self._again(key, timer.next, wait, continued=bool(decision.acts))

    def _look(self, sandbox: Sandbox, confirmed: bool) -> Seen:
        pod = self._world.pods.get(*sandbox.key)
        place = pod.spec.node_name if pod is not None else sandbox.status.node_name
        node = self._world.nodes.get(None, place) if place else None
        trouble = self._troubles.get(sandbox.key)
        by_policy = sandbox.spec.upgrade_policy is not None or sandbox.status.phase == Phase.UPGRADING
        upgrade = upgrade_name(self._world, sandbox) if by_policy else ""
        return Seen(
            sandbox=sandbox,
            pod=pod,
            freezer=node is not None and bool(node.meta.labels.get(labels.NODE_FREEZER)),
            keeps_files=node is not None and node.meta.labels.get(labels.NODE_KEEPS_FILES) == "true",
            now=self._world.clock(),
            silence=node_reading.silence(node) if node is not None else "",
            farewell=self._farewells.get(sandbox.key, ""),
            initialised=pod is not None and self._acts.initialised(sandbox, pod),
            loss_confirmed=confirmed,
            trouble=trouble.message if trouble is not None else "",
            upgrade=upgrade,
            hook=self.hooks.outcome(sandbox.key, hook_name(sandbox, upgrade)),
            effective=effective(self._world, sandbox),
            change=change(self._world, sandbox, pod) if pod is not None else None,
        )

    def _tell_update(self, sandbox: Sandbox, wanted: SandboxStatus) -> None:
        """An event beside the condition about a change of the running pod or an upgrade, when it ends or is refused."""
        for kind, events in ((conditions.INPLACE_UPDATE, _UPDATE_EVENTS), (conditions.UPGRADING, _UPGRADE_EVENTS)):
            said = conditions.find(wanted.conditions, kind)
            event = events.get(said.reason) if said is not None else None
            known = conditions.find(sandbox.status.conditions, kind)
            if said is not None and event is not None and (known is None or known.reason != said.reason):
                self._world.events.say(
                    kinds.SANDBOX, sandbox, event, said.message, warning=said.reason != Reason.SUCCEEDED
                )

    async def _try(self, act: Act, seen: Seen, key: Key) -> None:
        """Do it; a failure that is about this sandbox becomes its trouble and is tried again later."""
        try:
            await self._acts.perform(act, seen)
        except (TemplateProblem, InitFailed, errors.Invalid, errors.Forbidden) as error:
            previous = self._troubles.get(key)
            delay = min(_RETRY_MAX, previous.delay * 2 if previous is not None else _RETRY_FIRST)
            self._troubles[key] = Trouble(str(error), delay, time.monotonic() + delay)
            told = _FAILURE_EVENTS.get(act, "RuntimeCallFailed")
            reason = error.event if isinstance(error, TemplateProblem) else told
            self._world.events.say(kinds.SANDBOX, seen.sandbox, reason, str(error))
        else:
            self._troubles.pop(key, None)

    def _resting(self, key: Key) -> bool:
        trouble = self._troubles.get(key)
        return trouble is not None and time.monotonic() < trouble.until

    def _again(self, key: Key, timer: float | None, wait: float | None, *, continued: bool) -> Requeue | None:
        trouble = self._troubles.get(key)
        retry = max(0.01, trouble.until - time.monotonic()) if trouble is not None else None
        delays = [delay for delay in (timer, wait, retry) if delay is not None]
        if continued and trouble is None:
            delays.append(_RETRY_FIRST)
        return Requeue(min(_TIMER_MAX, max(0.01, min(delays)))) if delays else None

    def _forget(self, key: Key) -> None:
        self._troubles.pop(key, None)
        self._farewells.pop(key, None)
        self._status.forget(key)
        self._acts.forget(key)
        self.hooks.forget(key)

    # Timers ---------------------------------------------------------------------------------------------------------

    async def _strike(self, sandbox: Sandbox, stroke: Stroke) -> None:
        """Guarded by the version seen: a deadline that was just extended wins."""
        world, version = self._world, sandbox.meta.resource_version
        try:
            if stroke is Stroke.PAUSE:
                patch = pause_patch(sandbox, world.clock())
                answer = await world.cluster.patch(
                    kinds.SANDBOX, sandbox.namespace, sandbox.name, patch, resource_version=version
                )
                world.sandboxes.observe(answer)
                return
            await world.cluster.delete(
                kinds.SANDBOX, sandbox.namespace, sandbox.name, uid=sandbox.uid, resource_version=version
            )
        except errors.NotFound:
            return


def _bearing(node: Node) -> tuple[str | None, bool]:
    """What of a node its sandboxes show."""
    return node.meta.labels.get(labels.NODE_FREEZER), bool(node_reading.silence(node))


def _delivered(old: Sandbox | None, new: Sandbox | None) -> bool:
    """Whether this is the write of a claim that changed nothing but the owner."""
    before, after = (item is not None and item.meta.labels.get(labels.CLAIMED) == "true" for item in (old, new))
    return old is not None and new is not None and after and not before and new.spec.template is None


def _telling(pod: Pod) -> tuple[object, ...]:
    status = pod.status
    return (
        pod.uid,
        pod.meta.deletion_timestamp,
        status.phase,
        status.pod_ip,
        pod.spec.node_name,
        pod_reading.ready(pod),
        pod_reading.frozen(pod),
        pod_reading.halted(pod),
        pod_reading.desired(pod),
        pod_reading.restarts(pod),
        pod_reading.start_failure(pod),
        pod_reading.ended_containers(pod),
        pod_reading.disruption(pod),
        pod.meta.labels.get(labels.POD_TEMPLATE_HASH),
        inplace.progress_of(pod),
        status.phase == Phase.PENDING and pod_reading.unready(pod),
    )
