"""What an operator should look at, worst first: found in the world and in the health of the watches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tui.model.change import OPTIONAL, Key
from tui.model.pools import PoolRow
from tui.model.world import World

STUCK_PAUSE = 60.0
"""Seconds after which a pause or resume counts as stuck."""
OVERDUE = 30.0
"""Seconds after its shutdown time at which a sandbox should be gone."""
SLOW = 5.0
"""Seconds of watch lag worth saying."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One finding. ``level`` 0 is worst; ``about`` names the object to open, when there is one."""

    level: int
    title: str
    detail: str
    view: str = ""
    about: Key | None = None


@dataclass(frozen=True, slots=True)
class WatchHealth:
    """How one kind's watch is doing."""

    plural: str
    state: str
    """``connecting``, ``live``, ``forbidden``, ``missing``, ``unauthorized`` or ``lost``."""
    detail: str = ""
    since: float = 0.0
    lag: float | None = None


def alerts(world: World, pools: Iterable[PoolRow], watches: Iterable[WatchHealth], now: float) -> list[Alert]:
    """Everything worth a look at ``now``, worst first."""
    found = [*_watches(watches), *_pools(world, pools), *_sandboxes(world, now), *_nodes(world)]
    return sorted(found, key=lambda one: (one.level, one.title))


def _watches(watches: Iterable[WatchHealth]) -> Iterable[Alert]:
    """One alert for all kinds that suffer from the same thing."""
    groups: dict[tuple[str, str], list[WatchHealth]] = {}
    for watch in (one for one in watches if one.plural not in OPTIONAL):
        groups.setdefault((watch.state, watch.detail), []).append(watch)
        if watch.lag is not None and watch.lag > SLOW:
            yield Alert(2, f"watch of {watch.plural} lags", f"answers take {watch.lag:.1f} s")
    for (state, detail), found in groups.items():
        kinds = ", ".join(sorted(one.plural for one in found))
        what = kinds if len(found) < 3 else f"{len(found)} kinds"
        more = f" ({kinds})" if len(found) > 2 else ""
        if state == "forbidden":
            yield Alert(1, f"not allowed to watch {what}", f"{detail}{more}")
        elif state == "missing":
            yield Alert(0, f"the cluster has no {kinds}", "are the custom resource definitions installed?")
        elif state in ("lost", "unauthorized"):
            yield Alert(0, f"watch of {what} is down", f"{detail}{more}")


def _pools(world: World, pools: Iterable[PoolRow]) -> Iterable[Alert]:
    for pool in pools:
        name = "/".join(pool.key)
        if pool.health == "dry":
            detail = f"{pool.desired} wanted, none ready, {pool.creating} on the way"
            yield Alert(0, f"pool {name} is dry", detail, "pools", pool.key)
        elif pool.health == "failing":
            level = 1 if pool.available else 0
            detail = f"{pool.failing} failing: {_why(world, pool)}"
            yield Alert(level, f"pool {name} cannot start sandboxes", detail, "pools", pool.key)
        elif pool.health == "low":
            soon = f"dry in {pool.dry_in:.0f} s" if pool.dry_in is not None else "below a quarter"
            yield Alert(1, f"pool {name} runs low", f"{pool.available} of {pool.desired}, {soon}", "pools", pool.key)
        if pool.lagging:
            yield Alert(2, f"pool {name} is not reconciled", "its controller has not seen its spec", "pools", pool.key)


def _why(world: World, pool: PoolRow) -> str:
    """What one of the failing sandboxes of a pool says."""
    namespace, template = pool.key
    rows = (row for row in world.sandboxes.values() if row.failing and row.template == template)
    row = next((row for row in rows if row.key[0] == namespace), None)
    return (row.message or row.reason) if row is not None else "no reason given"


def _sandboxes(world: World, now: float) -> Iterable[Alert]:
    for key, since in world.pausing_since.items():
        if now - since > STUCK_PAUSE:
            row = world.sandboxes[key]
            word = "pause" if row.source.spec.paused else "resume"
            said = f": {row.message}" if row.message else ""
            yield Alert(1, f"{word} of {key[1]} is stuck", f"for {now - since:.0f} s{said}", "sandboxes", key)
    orphans, overdue, failed = [], [], []
    for row in world.sandboxes.values():
        if row.member and (row.key[0], row.template) not in world.sets:
            orphans.append(row.key)
        if row.shutdown is not None and now - row.shutdown > OVERDUE:
            overdue.append(row.key)
        if row.failing and not row.member:
            failed.append(row.key)
    for keys, title, detail in (
        (orphans, "pool members without a pool", "their SandboxSet is gone"),
        (overdue, "sandboxes outlived their shutdown time", "is the controller running?"),
        (failed, "claimed sandboxes failed", "their owners cannot use them"),
    ):
        if keys:
            yield Alert(1, f"{len(keys)} {title}", f"{detail}: {_names(keys)}", "sandboxes", keys[0])


def _names(keys: list[Key]) -> str:
    return ", ".join(name for _, name in keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _nodes(world: World) -> Iterable[Alert]:
    for node in world.nodes.values():
        for condition in node.status.conditions:
            if condition.type == "Ready" and condition.status != "True":
                yield Alert(0, f"node {node.name} is not ready", condition.message or condition.reason)
            elif condition.type != "Ready" and condition.status == "True":
                yield Alert(2, f"node {node.name}: {condition.type}", condition.message or condition.reason)
