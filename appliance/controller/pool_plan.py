"""What a SandboxSet should do next: pure, decided from a census of its members.

The order is that of the existing system: refill (throttled by ``scaleStrategy``), or shrink, always sweep the dead, and
only when the number is right replace members of an old revision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from appliance.api import labels
from appliance.api.conditions import Phase
from appliance.api.states import State, sandbox_state
from appliance.api.structs import Sandbox, SandboxSetSpec
from appliance.controller import budget

DEFAULT_MAX_UNAVAILABLE = "20%"
"""``updateStrategy.maxUnavailable`` when the set names none."""


@dataclass
class Census:
    """Members by state; ``old`` ones were made from another revision than the current."""

    creating: list[Sandbox] = field(default_factory=list)
    available: list[Sandbox] = field(default_factory=list)
    old_creating: list[Sandbox] = field(default_factory=list)
    old_available: list[Sandbox] = field(default_factory=list)
    dead: list[Sandbox] = field(default_factory=list)
    leaving: list[Sandbox] = field(default_factory=list)
    """Marked for scale-down by a controller that died before it could delete them."""
    unseen: int = 0
    """Creations whose outcome is not known yet; counted as creating."""

    @property
    def total(self) -> int:
        """Creating and available."""
        return self.updated + len(self.old_creating) + len(self.old_available)

    @property
    def updated(self) -> int:
        """Those of the current revision."""
        return len(self.creating) + len(self.available) + self.unseen

    @property
    def available_count(self) -> int:
        """Available ones of any revision."""
        return len(self.available) + len(self.old_available)


@dataclass(frozen=True)
class Plan:
    """What to do; each deletion is guarded by the version the member was seen at."""

    create: int = 0
    remove: tuple[Sandbox, ...] = ()
    """Surplus or outdated: at most these, only if nobody claims them first."""
    sweep: tuple[Sandbox, ...] = ()
    """Dead: nobody can want them."""


def census(members: Iterable[Sandbox], revision: str, now: datetime, *, unseen: int = 0) -> Census:
    """Sort the members. Deleted ones are left out: they are gone already, as far as the pool is concerned."""
    result = Census(unseen=unseen)
    for member in members:
        if member.meta.deletion_timestamp:
            continue
        state = sandbox_state(member, now)[0]
        current = member.meta.labels.get(labels.TEMPLATE_HASH) == revision
        if member.meta.annotations.get(labels.OWNER) == labels.OWNER_SCALE_DOWN:
            result.leaving.append(member)
        elif state is State.DEAD:
            result.dead.append(member)
        elif state is State.AVAILABLE:
            (result.available if current else result.old_available).append(member)
        else:
            (result.creating if current else result.old_creating).append(member)
    return result


def decide(spec: SandboxSetSpec, found: Census) -> Plan:
    """The next step. Raises ValueError naming the field of an unreadable budget."""
    sweep = (*found.dead, *found.leaving)
    missing = spec.replicas - found.total
    if missing > 0:
        return Plan(create=_throttled(spec, found, missing), sweep=sweep)
    if missing < 0:
        return Plan(remove=tuple(_shrink_order(found)[:-missing]), sweep=sweep)
    return Plan(remove=tuple(_outdated(spec, found)), sweep=sweep)


def _throttled(spec: SandboxSetSpec, found: Census, missing: int) -> int:
    limit = spec.scale_strategy.max_unavailable
    if limit is None:
        return missing
    allowed = budget.resolve(limit, spec.replicas, "spec.scaleStrategy.maxUnavailable")
    return max(0, min(missing, allowed - (found.total - found.available_count)))


def _shrink_order(found: Census) -> list[Sandbox]:
    """Old revision before current, not ready before ready, and older before younger."""
    return [
        *sorted(found.old_creating, key=_readiness_and_age),
        *sorted(found.old_available, key=_readiness_and_age),
        *sorted(found.creating, key=_readiness_and_age),
        *sorted(found.available, key=_readiness_and_age),
    ]


def _readiness_and_age(sandbox: Sandbox) -> tuple[int, int, str, str]:
    """Pending first, then those recycled most often, then the oldest."""
    pending = sandbox.status.phase in ("", Phase.PENDING)
    return (0 if pending else 1, -sandbox.status.recycled_count, sandbox.meta.creation_timestamp or "", sandbox.name)


def _outdated(spec: SandboxSetSpec, found: Census) -> list[Sandbox]:
    """Old members to replace now: unready ones freely, available ones within the budget, oldest first."""
    limit = spec.update_strategy.max_unavailable
    if not found.old_creating and not found.old_available:
        return []
    value = DEFAULT_MAX_UNAVAILABLE if limit is None else limit
    allowed = budget.resolve(value, spec.replicas, "spec.updateStrategy.maxUnavailable")
    room = max(0, allowed - len(found.creating) - found.unseen)
    return [*found.old_creating, *sorted(found.old_available, key=_readiness_and_age)[:room]]
