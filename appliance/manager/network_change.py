"""``PUT …/network``: one guarded write of the Sandbox, then its pod, and the node's confirmation.

With header rules there is more, in an order in which nothing is named before it exists and nobody is shown a
certificate before trusting its authority: the new rules' Secret, the write, the sandbox's trust, the pod, and the
Secret of the rules before. The authority stays while one set of rules replaces another, so that programs which have
read the trust store go on. Changes of one sandbox by this replica come one after the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from appliance.api.header_rules import HeaderRules, Rule, new_revision
from appliance.api.labels import E2B_LIFECYCLE, SHOULD_INIT_ENVD
from appliance.api.structs import Sandbox
from appliance.claims.errors import InitFailed, NetworkRefused
from appliance.claims.header_rules import drop_rules, keep_rules, revision, stored_rules
from appliance.claims.personalise import dress_pod, trust_body
from appliance.claims.runtime_client import RuntimeClient
from appliance.kube.cluster import Cluster
from appliance.kube.errors import KubeError
from appliance.manager import network, options
from appliance.manager.bodies import NetworkUpdate
from appliance.manager.errors import Fault, sandbox_not_found
from appliance.manager.header_rules import check
from appliance.manager.network import Network
from appliance.manager.options import options_of
from appliance.manager.roster import Entry
from appliance.manager.runstate import Run
from appliance.manager.transitions import Transitions

log = logging.getLogger(__name__)


class NetworkChanges:
    """Changes what running sandboxes may reach."""

    def __init__(self, cluster: Cluster, moves: Transitions, runtime: RuntimeClient) -> None:
        self._cluster, self._moves, self._runtime = cluster, moves, runtime
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def change(self, entry: Entry, update: NetworkUpdate) -> None:
        """Replace the egress part and wait until it is in force. 404 if paused, 409 in between; Fault 400, 503."""
        given = check("rules", update.rules or {})
        lock = self._locks.setdefault(entry.sandbox_id, asyncio.Lock())
        async with lock:
            try:
                await _Change(self._cluster, self._moves, self._runtime, entry, update).run(given)
            except InitFailed as error:
                raise Fault(503, f'Sandbox "{entry.sandbox_id}": {error}') from error


class _Change:
    """One change."""

    def __init__(
        self, cluster: Cluster, moves: Transitions, runtime: RuntimeClient, entry: Entry, update: NetworkUpdate
    ) -> None:
        self._cluster, self._moves, self._runtime = cluster, moves, runtime
        self._entry, self._update = entry, update
        self._revision = ""
        self._before: dict[str, Any] = {}
        """Labels and annotations that the write replaced."""
        self._replaced = ""
        """Revision that it replaced."""

    async def run(self, given: Mapping[str, list[Rule]]) -> None:
        known = self._moves.newest(self._entry.sandbox)
        self._decide(known, self._moves.run_of(known))  # refused before anything is made
        old = await stored_rules(self._cluster, known)
        new = await self._keep(known, given, old) if given else None
        try:
            sandbox = await self._moves.change(self._entry.sandbox, self._decide)
        except Fault:
            await self._drop(known, self._revision)
            raise
        if new is not None and (old is None or old.authority != new.authority):
            await self._trust(sandbox, new)
        await self._dress(sandbox)
        if old is not None and new is None:
            await self._trust(sandbox, None)
        await self._drop(sandbox, self._replaced)

    async def _keep(self, sandbox: Sandbox, given: Mapping[str, list[Rule]], old: HeaderRules | None) -> HeaderRules:
        if sandbox.meta.annotations.get(SHOULD_INIT_ENVD) == "false":
            raise Fault(400, "rules need the sandbox's /init, which skip-init-runtime left out")
        from appliance.claims.authority import new_authority  # few need it

        self._revision = new_revision()
        rules = HeaderRules(dict(given), new_authority() if old is None else old.authority)
        return await keep_rules(self._cluster, sandbox, self._revision, rules)

    def _decide(self, sandbox: Sandbox, run: Run) -> Mapping[str, Any]:
        entry, update = self._entry, self._update
        if run is Run.PAUSED:
            raise sandbox_not_found(entry.sandbox_id)
        if run is not Run.RUNNING:
            raise Fault(409, f'Sandbox "{entry.sandbox_id}" is not running: its network cannot be changed now')
        known = options_of(sandbox)
        wanted = network.replan(update, internet=known.internet, echo=known.network, revision=self._revision)
        own, annotations = wanted.labels, self._annotations(known, wanted)
        self._before = {
            "labels": {name: sandbox.meta.labels.get(name) for name in own},
            "annotations": {name: sandbox.meta.annotations.get(name) for name in annotations},
        }
        self._replaced = revision(sandbox)
        return {"metadata": {"labels": own, "annotations": annotations}}

    def _annotations(self, known: options.Options, wanted: Network) -> dict[str, str | None]:
        update = self._update
        internet = known.internet if update.allow_internet_access is None else update.allow_internet_access
        changed = msgspec.structs.replace(known, internet=internet, network=wanted.echo, present=True)
        return {**wanted.annotations, E2B_LIFECYCLE: options.encode(changed)}

    async def _trust(self, sandbox: Sandbox, rules: HeaderRules | None) -> None:
        token = self._entry.token
        await self._runtime.init(sandbox.status.sandbox_ip, trust_body(token, rules), token)

    async def _dress(self, sandbox: Sandbox) -> None:
        try:
            await dress_pod(self._cluster, sandbox)
        except NetworkRefused as error:
            again = await self._moves.change(self._entry.sandbox, lambda *_: {"metadata": self._before})
            with suppress(NetworkRefused):
                await dress_pod(self._cluster, again)
            await self._drop(again, self._revision)
            raise Fault(400, f'Sandbox "{self._entry.sandbox_id}": {error}') from error

    async def _drop(self, sandbox: Sandbox, own: str) -> None:
        """A Secret that stays goes with the sandbox."""
        if not own:
            return
        with suppress(KubeError):
            await drop_rules(self._cluster, sandbox, own)
