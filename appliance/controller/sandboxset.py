"""SandboxSet: keeps so many unclaimed sandboxes warm.

Never too many: names of new members are chosen here and remembered until the cache shows them, so a creation whose
answer got lost is repeated under its name instead of replaced. Never a claimed one deleted: every deletion of a surplus
member is guarded by the version at which it was seen unclaimed. That one request does what the existing system's
lock-then-delete does in two; its marker (``OWNER_SCALE_DOWN``) is still honoured on members that carry it.

One reconcile makes at most one batch (16, 32, 64: slow start), so that status and claims are never stuck behind a
large refill; events during a refill coalesce into a few reconciles a second. A refill waits while claims come in a
burst and at least half of the pool is left (``PoolMemory.claims_first``): both load the same API server.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from appliance.api import kinds, labels
from appliance.api.structs import Sandbox, SandboxSet, SandboxTemplate
from appliance.claims import newborn
from appliance.controller import indexes, pool_plan
from appliance.controller.pool_memory import PoolMemory
from appliance.controller.pool_status import PoolStatusWriter
from appliance.controller.revision import Revision, TemplateProblem
from appliance.controller.revision_keeper import RevisionKeeper
from appliance.controller.world import Key, World
from appliance.kube import errors
from appliance.kube.workqueue import Requeue, WorkQueue

log = logging.getLogger(__name__)

_COALESCE = 0.02
"""Seconds that events of members are gathered before the set is looked at."""


class SandboxSetController:
    """Subscribe it before the informers run, then run its ``queue``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.queue: WorkQueue[Key] = WorkQueue(
            self.reconcile, workers=world.settings.workers, name="sandboxset", backoff_max=30.0
        )
        self._revisions = RevisionKeeper(world)
        self._status = PoolStatusWriter(world)
        self._memories: dict[Key, PoolMemory] = {}
        self.created = 0
        self.removed = 0
        world.sets.subscribe(self._on_set)
        world.sandboxes.subscribe(self._on_sandbox)
        world.templates.subscribe(lambda old, new: self._on_template(new or old))

    # Observe --------------------------------------------------------------------------------------------------------

    def _on_set(self, old: SandboxSet | None, new: SandboxSet | None) -> None:
        item = new or old
        if item is not None and (old is None or new is None or old.meta.generation != new.meta.generation):
            self.queue.add(item.key)

    def _on_sandbox(self, old: Sandbox | None, new: Sandbox | None) -> None:
        for sandbox in (old, new):
            pool = sandbox.meta.labels.get(labels.POOL) if sandbox is not None else None
            if sandbox is not None and pool:
                self.queue.add_after((sandbox.namespace, pool), _COALESCE)
        if old is not None and new is not None and _claimed(new) and not _claimed(old):
            memory = self._memories.get((new.namespace, new.meta.labels.get(labels.POOL, "")))
            if memory is not None:
                memory.note_claim(time.monotonic())

    def _on_template(self, template: SandboxTemplate | None) -> None:
        if template is None:
            return
        for user in self._world.sets.by_index(indexes.TEMPLATE_USERS, f"{template.namespace}/{template.name}"):
            self.queue.add(user.key)
        owner = template.meta.labels.get(labels.POOL)
        if owner and self._world.sets.get(template.namespace, owner) is None:
            self.queue.add_after((template.namespace, owner), 1.0)

    # Reconcile ------------------------------------------------------------------------------------------------------

    async def reconcile(self, key: Key) -> Requeue | None:
        """One step towards what the set asks for. Raises KubeError (the queue tries again)."""
        owner = self._world.sets.get(*key)
        if owner is None:
            await self._forget(key)
            return None
        if owner.meta.deletion_timestamp:
            return None
        try:
            revision = await self._revisions.ensure(owner)
            census = self._census(owner, revision)
            plan = pool_plan.decide(owner.spec, census)
        except (TemplateProblem, ValueError) as problem:
            self._world.events.say(kinds.SANDBOXSET, owner, "InvalidTemplate", str(problem))
            await self._status.write_problem(owner, str(problem))
            return None
        memory = self._memory(key)
        memory.note_deaths(plan.sweep, self._world.clock())
        await self._remove(plan.sweep, guarded=False)
        await self._remove(plan.remove, guarded=True)
        rush = memory.claims_first(census.available_count, owner.spec.replicas, time.monotonic())
        wanted = 0 if rush is not None else memory.allow(plan.create)
        made = await self._refill(owner, revision, memory, wanted)
        wait = await self._status.write(owner, revision, self._census(owner, revision), memory)
        await self._revisions.collect(key)
        held = memory.wait() if wanted < plan.create else None
        return _soonest(0.0 if made < wanted else None, wait, held, rush if plan.create else None)

    def _census(self, owner: SandboxSet, revision: Revision) -> pool_plan.Census:
        memory = self._memory(owner.key)
        members = self._world.sandboxes.by_index(indexes.MEMBERS, owner.uid)
        memory.settle(members)
        unseen = len(memory.unseen)
        present = (member for member in members if member.uid not in memory.leaving)
        return pool_plan.census(present, revision.hash, self._world.clock(), unseen=unseen)

    def _memory(self, key: Key) -> PoolMemory:
        memory = self._memories.get(key)
        if memory is None:
            settings = self._world.settings
            memory = self._memories[key] = PoolMemory(settings.batch_initial, settings.batch_max)
        return memory

    async def _forget(self, key: Key) -> None:
        self._memories.pop(key, None)
        self._revisions.forget(key)
        self._status.forget(key)
        await self._revisions.collect(key)

    # Act ------------------------------------------------------------------------------------------------------------

    async def _refill(self, owner: SandboxSet, revision: Revision, memory: PoolMemory, missing: int) -> int:
        """One batch of new members, at most ``missing``; returns how many were made. Raises the first failure."""
        repeat = list(memory.unseen)
        fresh = [newborn.new_name(owner.name) for _ in range(min(missing, memory.batch))]
        names = [*repeat, *fresh]
        if not names:
            return 0
        memory.unseen.update(fresh)
        started = time.monotonic()
        outcomes = await asyncio.gather(
            *(self._make(owner, revision, name, memory) for name in names), return_exceptions=True
        )
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        memory.adapt(time.monotonic() - started, failed=bool(failures))
        self.created += len(names) - len(failures)
        if failures:
            self._world.events.say(kinds.SANDBOXSET, owner, "FailedCreate", f"creating a sandbox: {failures[0]}")
            raise failures[0]
        return len(fresh)

    async def _make(self, owner: SandboxSet, revision: Revision, name: str, memory: PoolMemory) -> None:
        body = newborn.member(
            owner, name=name, revision=revision.hash, template=revision.template, metadata=revision.metadata
        )
        try:
            made = await self._world.cluster.create(kinds.SANDBOX, owner.namespace, body)
        except errors.AlreadyExists:
            made = await self._world.cluster.get(kinds.SANDBOX, owner.namespace, name)
        except (errors.Unreachable, errors.RequestTimeout, errors.ServerError):
            raise  # outcome unknown: the name stays remembered and is tried again
        except errors.KubeError:
            memory.unseen.discard(name)
            raise
        memory.unseen.discard(name)
        self._world.sandboxes.observe(made)

    async def _remove(self, victims: Iterable[Sandbox], *, guarded: bool) -> None:
        """Delete members; a guarded one only if it is still as it was seen, that is, unclaimed."""
        chosen = list(victims)[: self._world.settings.batch_max]
        await asyncio.gather(*(self._delete(victim, guarded) for victim in chosen))

    async def _delete(self, victim: Sandbox, guarded: bool) -> None:
        version = victim.meta.resource_version if guarded else None
        try:
            await self._world.cluster.delete(
                kinds.SANDBOX, victim.namespace, victim.name, uid=victim.uid, resource_version=version
            )
        except errors.Conflict:
            return  # claimed or changed meanwhile; the news about it brings us back
        except errors.NotFound:
            pass
        pool = victim.meta.labels.get(labels.POOL, "")
        self._memory((victim.namespace, pool)).leaving.add(victim.uid)
        self.removed += 1


def _claimed(sandbox: Sandbox) -> bool:
    return sandbox.meta.labels.get(labels.CLAIMED) == "true"


def _soonest(*delays: float | None) -> Requeue | None:
    present = [delay for delay in delays if delay is not None]
    return Requeue(min(present)) if present else None
