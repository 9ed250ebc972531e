"""The world as the flight deck knows it: a fold over ``Change`` values, and nothing else.

``apply`` is the whole reducer. It asks no clock: every number that depends on time is taken from the instants of the
changes, or from the ``now`` a reader passes. So the same changes give the same world, live or replayed; ``digest`` says
so in one value. Each change costs a few dictionary operations; nothing grows without bound.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, OrderedDict, defaultdict
from dataclasses import replace
from hashlib import sha256

from appliance.api import claimreport, labels
from appliance.api.corestructs import CoreEvent, Node, Pod
from appliance.api.states import State
from appliance.api.structs import SandboxClaim, SandboxSet
from tui.model.change import Change, Key
from tui.model.claims import ClaimRow, Sighting, claim_row
from tui.model.deliveries import DeliveryBook, lock_of
from tui.model.meters import RateMeter
from tui.model.pools import PoolBook, PoolRow, pool_row
from tui.model.sandboxes import SandboxRow, epoch, restarts_of, sandbox_row
from tui.model.timeline import MOMENTS_KEPT, Moment, seen_moments, timeline, told_moments

EVENTS = 2000
"""Cluster events remembered."""
GONE = 200
"""Deleted sandboxes whose timeline is kept a while."""


class World:
    """Everything known; ``version`` grows with every change, so that painters know whether to paint."""

    def __init__(self) -> None:
        self.version = 0
        self.at = 0.0
        self.sandboxes: dict[Key, SandboxRow] = {}
        self.order: list[Key] = []
        """Keys of the sandboxes, sorted: kept up, since sorting ten thousand for every frame is dear."""
        self.sets: dict[Key, SandboxSet] = {}
        self.claims: dict[Key, SandboxClaim] = {}
        self.pods: dict[Key, Pod] = {}
        self.nodes: dict[str, Node] = {}
        self.events: OrderedDict[Key, CoreEvent] = OrderedDict()
        self.books: defaultdict[Key, PoolBook] = defaultdict(PoolBook)
        self.states: Counter[State] = Counter()
        self.deliveries = DeliveryBook()
        self.sightings: dict[Key, Sighting] = {}
        self.pausing_since: dict[Key, float] = {}
        self.rate = RateMeter()
        self._members: defaultdict[Key, dict[Key, SandboxRow]] = defaultdict(dict)
        self._seen: dict[Key, list[Moment]] = {}
        self._gone: OrderedDict[Key, SandboxRow] = OrderedDict()

    # The reducer --------------------------------------------------------------------------------------------------
    def apply(self, change: Change) -> None:
        """One change; the only way anything here changes (``advance`` only takes due samples)."""
        self.version += 1
        self.at = max(self.at, change.at)
        self.rate.add(change.at)
        match change.plural:
            case "sandboxes":
                self._on_sandbox(change)
            case "sandboxsets":
                self._on_set(change)
            case "sandboxclaims":
                self._on_claim(change)
            case "pods":
                self._on_pod(change)
            case "nodes":
                self._on_node(change)
            case "events":
                self._on_event(change)
            case "configmaps":
                self.deliveries.report(change.key, claimreport.decode(change.new) if change.new else None)

    def advance(self, now: float) -> None:
        """Take the samples that are due at ``now``, so that quiet pools have histories too."""
        for book in self.books.values():
            book.depth.advance(now)

    def _on_set(self, change: Change) -> None:
        if isinstance(change.new, SandboxSet):
            self.sets[change.key] = change.new
            self.books[change.key].depth.advance(change.at)
            return
        self.sets.pop(change.key, None)
        if not sum(self.books[change.key].states.values()):
            del self.books[change.key]

    def _on_node(self, change: Change) -> None:
        if isinstance(change.new, Node):
            self.nodes[change.key[1]] = change.new
        else:
            self.nodes.pop(change.key[1], None)

    def _on_event(self, change: Change) -> None:
        if isinstance(change.new, CoreEvent):
            self.events[change.key] = change.new
            self.events.move_to_end(change.key)
            if len(self.events) > EVENTS:
                self.events.popitem(last=False)

    def _on_pod(self, change: Change) -> None:
        pod = change.new if isinstance(change.new, Pod) else None
        if pod is None:
            self.pods.pop(change.key, None)
        else:
            self.pods[change.key] = pod
        row = self.sandboxes.get(change.key)
        restarts = restarts_of(pod)
        if row is not None and pod is not None and row.restarts != restarts:
            self._remember(row, replace(row, restarts=restarts), change.at)
            self._put(replace(row, restarts=restarts))

    def _on_claim(self, change: Change) -> None:
        claim = change.new if isinstance(change.new, SandboxClaim) else None
        if claim is None:
            self.claims.pop(change.key, None)
            self.sightings.pop(change.key, None)
            return
        old = self.claims.get(change.key)
        self.claims[change.key] = claim
        before = self.sightings.get(change.key, Sighting())
        self.sightings[change.key] = sight = _sighting(before, old, claim, change.at)
        if sight.ended is not None and before.ended is None:
            took = sight.ended - (sight.created or sight.ended)
            self.deliveries.took(claim.uid, change.at, took)

    def _on_sandbox(self, change: Change) -> None:
        old = self.sandboxes.get(change.key)
        if change.new is None:
            if old is not None:
                self._drop(old, change.at)
            return
        new = sandbox_row(change.new, change.at, restarts_of(self.pods.get(change.key)))  # type: ignore[arg-type]
        if old is not None and old.source.uid != new.source.uid:
            self._drop(old, change.at)
            old = None
        self._count_change(old, new, change.at)
        self._remember(old, new, change.at)
        self._put(new)

    def _put(self, row: SandboxRow) -> None:
        old = self.sandboxes.get(row.key)
        self._book(row, 1)  # first, so that the book of its pool is never empty in between
        if old is not None:
            self._book(old, -1)
        self.sandboxes[row.key] = row
        if old is None:
            insort(self.order, row.key)
        claim = row.source.meta.labels.get(labels.CLAIM_NAME)
        if claim:
            self._members[row.key[0], claim][row.key] = row

    def _drop(self, row: SandboxRow, at: float) -> None:
        self._book(row, -1)
        del self.sandboxes[row.key]
        del self.order[bisect_left(self.order, row.key)]
        pool = (row.key[0], row.template)
        if row.member and pool in self.books:
            self.books[pool].depth.set(at, self.books[pool].members[State.AVAILABLE])
        self.pausing_since.pop(row.key, None)
        self.deliveries.gone(row)
        self._remember(row, None, at)
        self._gone[row.key] = row
        if len(self._gone) > GONE:
            forgotten, _ = self._gone.popitem(last=False)
            if forgotten not in self.sandboxes:
                self._seen.pop(forgotten, None)
        claim = row.source.meta.labels.get(labels.CLAIM_NAME)
        if claim:
            self._members[row.key[0], claim].pop(row.key, None)
            if not self._members[row.key[0], claim]:
                del self._members[row.key[0], claim]

    def _book(self, row: SandboxRow, sign: int) -> None:
        self.states[row.state] += sign
        key = (row.key[0], row.template)
        book = self.books[key]
        book.states[row.state] += sign
        if row.member:
            book.members[row.state] += sign
        if row.failing:
            book.failing += sign
        if not sum(book.states.values()) and key not in self.sets:
            del self.books[key]

    def _count_change(self, old: SandboxRow | None, new: SandboxRow, at: float) -> None:
        """Rates, levels, deliveries and pauses: what the step from ``old`` to ``new`` means."""
        book = self.books[new.key[0], new.template]
        was_there = old is not None and old.member and old.state is State.AVAILABLE
        is_there = new.member and new.state is State.AVAILABLE
        book.depth.set(at, book.members[State.AVAILABLE] + is_there - was_there)
        if is_there and not was_there:
            ready = next((c.last_transition_time for c in new.source.status.conditions if c.type == "Ready"), None)
            book.refills.add(at if old is not None else _stamp(ready, at))
        if new.claimed_at is not None and (old is None or old.claimed_at != new.claimed_at):
            self._on_delivery(new, at, book)
        else:
            self.deliveries.changed(new, at)
        if new.pausing:
            self.pausing_since.setdefault(new.key, at)
        else:
            self.pausing_since.pop(new.key, None)

    def _on_delivery(self, row: SandboxRow, at: float, book: PoolBook) -> None:
        claimed = row.claimed_at or at
        book.claims.add(claimed)
        if not row.on_demand:
            book.hits.add(claimed)
        if not row.source.meta.labels.get(labels.CLAIM_NAME):
            self.deliveries.delivered(row, at)

    def _remember(self, old: SandboxRow | None, new: SandboxRow | None, at: float) -> None:
        row = new or old
        moments = seen_moments(old, new, at)
        if row is not None and moments:
            known = self._seen.setdefault(row.key, [])
            known.extend(moments)
            del known[:-MOMENTS_KEPT]

    # Readers ------------------------------------------------------------------------------------------------------
    def sandbox_rows(self) -> list[SandboxRow]:
        """Every sandbox, in the order of the keys."""
        return list(map(self.sandboxes.__getitem__, self.order))

    def pool_rows(self, now: float) -> list[PoolRow]:
        """A row for every set."""
        return [pool_row(pool, self.books[key], now) for key, pool in self.sets.items()]

    @property
    def latencies(self) -> list[tuple[float, float]]:
        """When claims ended and how long they took."""
        return self.deliveries.latencies

    def claim_rows(self, now: float) -> list[ClaimRow]:
        """SandboxClaims and deliveries, those in flight first, then the most recent first."""
        rows = [self._claim(claim) for claim in self.claims.values()]
        rows += self.deliveries.claim_rows(now)
        return sorted(rows, key=lambda row: (row.ended is not None, -row.started, row.key))

    def _claim(self, claim: SandboxClaim) -> ClaimRow:
        pool = (claim.namespace, claim.spec.template_name)
        stock = self.books[pool].members[State.AVAILABLE] if pool in self.sets else None
        members = list(self._members[claim.key].values()) if claim.key in self._members else []
        told = [self.deliveries.told[lock] for lock in map(lock_of, members) if lock in self.deliveries.told]
        return claim_row(claim, self.sightings.get(claim.key, Sighting()), members, stock, told)

    def find(self, key: Key) -> SandboxRow | None:
        """A sandbox, or how it was last seen."""
        return self.sandboxes.get(key) or self._gone.get(key)

    def timeline(self, key: Key) -> list[Moment]:
        """The life of one sandbox, oldest moment first."""
        row = self.find(key)
        return timeline(told_moments(row, self.pods.get(key)) if row else [], self._seen.get(key, []))

    def events_about(self, key: Key) -> list[CoreEvent]:
        """Cluster events about the objects of that name, oldest first."""
        found = [one for one in self.events.values() if (one.namespace, one.involved_object.name) == key]
        return sorted(found, key=lambda one: one.last_timestamp or one.event_time or "")

    def namespaces(self) -> list[str]:
        """Namespaces that hold anything, sorted."""
        return sorted({key[0] for key in (*self.sets, *self.sandboxes, *self.claims)})

    def digest(self) -> str:
        """A value that is equal exactly when two worlds are: what record and replay are tested with."""
        parts = (
            sorted((key, row.state, row.reason, row.restarts, row.claimed_at) for key, row in self.sandboxes.items()),
            [self.pool_rows(self.at)],
            self.claim_rows(self.at),
            self.latencies,
            sorted(self._seen.items()),
            sorted(self.events),
            sorted(self.nodes),
        )
        return sha256(repr(parts).encode()).hexdigest()


def _stamp(text: str | None, at: float) -> float:
    return epoch(text) or at


def _sighting(before: Sighting, old: SandboxClaim | None, claim: SandboxClaim, at: float) -> Sighting:
    """What this version of a SandboxClaim shows for the first time, if it was seen as it happened."""
    live = before.created is not None or (old is None and not claim.status.phase)
    if not live:
        return before
    after = replace(before, created=before.created or at)
    if claim.status.claim_start_time and after.started is None:
        after = replace(after, started=at)
    if claim.status.claimed_replicas > (old.status.claimed_replicas if old else 0):
        after = replace(after, delivered=at)
    if claim.status.phase == "Completed" and after.ended is None:
        after = replace(after, ended=at)
    return after
