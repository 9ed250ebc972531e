"""``appliance uninstall``: takes the program off a cluster; sandboxes, their definitions and all keys stay.

``plan`` looks and touches nothing; ``carry_out`` deletes exactly what the plan says, the workloads first. Only with
``everything`` do the definitions go, and with them every sandbox, pool and claim of the cluster, the policies around
sandboxes and the namespace with the API keys and the seed. What Helm installed is left to Helm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from appliance.api import kinds, labels
from appliance.api.kinds import Kind
from appliance.install.apply import explained
from appliance.install.command import manifests
from appliance.install.network import SANDBOXES
from appliance.install.rbac import selector
from appliance.install.resources import POLICY, label, place_of
from appliance.install.values import parse
from appliance.kube.cluster import Cluster
from appliance.kube.errors import ApiError, NotFound

_EVERY = {"domain": "x", "ingress": {"enabled": True}, "createNamespace": True, "sandboxNamespaces": []}
"""Values with which everything that could have been installed is rendered."""
ENDING = 120.0
"""Seconds that all sandboxes may take to end."""
_LOOK = 0.2
"""Seconds between looks at what has to end."""
_LOOKS_PER_REMINDER = 15
_REMINDER = f"{labels.GROUP}/uninstall-looks"
_LAST = ("CustomResourceDefinition", "Namespace")


@dataclass
class Plan:
    """What would be deleted, in order, and what would stay."""

    delete: list[dict[str, Any]] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    sandboxes: int = 0
    """Sandboxes that exist now."""

    def lines(self, everything: bool) -> list[str]:
        """The plan for a person."""
        made = ["to be deleted:", *(f"  {label(document)}" for document in self.delete)]
        if everything and self.sandboxes:
            made.append(f"  and with the definitions {self.sandboxes} sandboxes, running ones included")
        return made if not self.keep else [*made, "to be kept:", *(f"  {line}" for line in self.keep)]


async def plan(cluster: Cluster, everything: bool) -> Plan:
    """Look what is there.

    Raises:
        RuntimeError: Helm installed it, or an object may not be read; named.
        KubeError: the cluster does not answer.
    """
    found = Plan(sandboxes=await _sandboxes(cluster))
    documents = [document for document in manifests(parse(_EVERY)) if document["kind"] not in _LAST]
    present = [document for document in reversed(documents) if await _present(cluster, document)]
    policies = await _policies(cluster)
    lasting = [one for one in manifests(parse(_EVERY)) if one["kind"] in _LAST and await _present(cluster, one)]
    if everything:
        found.delete = [*present, *reversed(lasting), *policies]
        return found
    found.delete = present
    if lasting:
        found.keep.append(f"the definitions and {found.sandboxes} sandboxes (--delete-sandboxes deletes them)")
        found.keep.append(f"the namespace {labels.SYSTEM_NAMESPACE} with the API keys")
    found.keep += [label(document) for document in policies]
    return found


async def carry_out(cluster: Cluster, chosen: Plan, everything: bool, say: Callable[[str], None]) -> None:
    """Delete what the plan says. Raises as ``plan``, and ``RuntimeError`` when sandboxes do not end."""
    if everything and chosen.sandboxes:
        await _end_sandboxes(cluster, say)
    for document in chosen.delete:
        kind, namespace, name = place_of(document)
        try:
            await cluster.delete(kind, namespace, name, propagation="Background")
        except NotFound:
            continue
        except ApiError as error:
            raise RuntimeError(f"{label(document)}: {explained(error)}") from error
        say(f"{label(document)} deleted")
    await _await_definitions(cluster, [one for one in chosen.delete if one["kind"] == "CustomResourceDefinition"])


async def _await_definitions(cluster: Cluster, documents: list[dict[str, Any]]) -> None:
    """Wait until the API server has taken these definitions away: the next ``install`` must not meet half of one.

    kube-apiserver can lose a definition when several go at once (its finalizer takes a conflict for the promise of
    another event, which then does not count as a change) and comes back to it minutes later. Any change reminds it.

    Raises:
        RuntimeError: some are still there after ``ENDING`` seconds; named.
    """
    end = time.monotonic() + ENDING
    looks = 0
    while left := [document for document in documents if await _live(cluster, document)]:
        if time.monotonic() > end:
            names = ", ".join(label(document) for document in left)
            raise RuntimeError(
                f"still being deleted after {ENDING:g} s: {names}. kubectl describe says what they wait for"
            )
        looks += 1
        if looks % _LOOKS_PER_REMINDER == 0:
            for document in left:
                kind, _, name = place_of(document)
                with suppress(NotFound):
                    await cluster.patch(kind, None, name, {"metadata": {"annotations": {_REMINDER: str(looks)}}})
        await asyncio.sleep(_LOOK)


async def _live(cluster: Cluster, document: dict[str, Any]) -> dict[str, Any] | None:
    kind, namespace, name = place_of(document)
    try:
        return await cluster.get(kind, namespace, name, type=dict[str, Any])
    except NotFound:
        return None


async def _end_sandboxes(cluster: Cluster, say: Callable[[str], None]) -> None:
    """Claims, pools, then sandboxes, while the controllers are still there: they hold a finalizer on each sandbox."""
    for kind in (kinds.SANDBOXCLAIM, kinds.SANDBOXSET, kinds.SANDBOX):
        found = await cluster.list(kind, type=dict[str, Any])
        for one in found.items:
            with suppress(NotFound):
                await cluster.delete(kind, one["metadata"]["namespace"], one["metadata"]["name"])
        say(f"{len(found.items)} {kind.plural} deleted")
    end = time.monotonic() + ENDING
    while left := (await cluster.list(kinds.SANDBOX)).items:
        if time.monotonic() > end:
            names = ", ".join(f"{one.namespace}/{one.name}" for one in left[:5])
            raise RuntimeError(
                f"{len(left)} sandboxes have not ended after {ENDING:g} s ({names}); nothing else was deleted. "
                f"Is a controller running? kubectl -n {labels.SYSTEM_NAMESPACE} get pods"
            )
        await asyncio.sleep(_LOOK)


async def _present(cluster: Cluster, document: dict[str, Any]) -> bool:
    try:
        live = await _live(cluster, document)
    except ApiError as error:
        raise RuntimeError(f"{label(document)}: {explained(error)}") from error
    if live is None:
        return False
    notes = live["metadata"].get("annotations") or {}
    if release := notes.get("meta.helm.sh/release-name"):
        place = notes.get("meta.helm.sh/release-namespace", "default")
        raise RuntimeError(f"{label(document)} belongs to a Helm release: helm uninstall {release} -n {place}")
    return True


async def _policies(cluster: Cluster) -> list[dict[str, Any]]:
    chosen = ",".join(f"{key}={value}" for key, value in selector(SANDBOXES).items())
    found = await cluster.list(POLICY, label_selector=chosen, type=dict[str, Any])
    return [{**one, "apiVersion": POLICY.api_version, "kind": POLICY.kind} for one in found.items]


async def _sandboxes(cluster: Cluster) -> int:
    kind: Kind[Any] = kinds.SANDBOX
    try:
        return len((await cluster.list(kind)).items)
    except NotFound:
        return 0
