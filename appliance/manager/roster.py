"""Which delivered sandboxes exist, by id: the one cache behind API answers and gateway routes.

Fed by the Sandbox informer (also with the answers of our own writes, so the request right after a create finds its
sandbox), it keeps what both sides need again and again: the decoded options, the derived tokens, the sizes. A killed
sandbox is *buried* before its deletion is sent, so that nobody finds it any more, whenever the informer hears of it.

When a sandbox stops being routable (killed, dead, pausing), ``on_lost`` is called with its id, once: the gateway
resets its connections, which is how SDKs learn that it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol

from appliance.api import labels
from appliance.api.ids import access_token
from appliance.api.states import in_pool
from appliance.api.structs import Sandbox
from appliance.kube.informer import Informer
from appliance.manager import deadlines
from appliance.manager.keys.model import ApiKey
from appliance.manager.options import Options, options_of
from appliance.manager.runstate import Run, run_of

MAX_BURIED = 10_000
"""Killed sandboxes whose removal the informer has not reported yet."""


class Entry:
    """One delivered sandbox as last seen; a new one is made for every change."""

    __slots__ = ("options", "sandbox", "sandbox_id", "started_at", "token", "traffic_token")

    def __init__(self, sandbox: Sandbox, seed: bytes, known: Entry | None = None) -> None:
        self.sandbox = sandbox
        self.sandbox_id = sandbox_id_of(sandbox)
        self.options: Options = options_of(sandbox)
        self.started_at = deadlines.started_at(sandbox, self.options)
        self.token: str | None
        """What the runtime demands; None: nothing."""
        self.traffic_token: str | None
        """What clients of user ports must show; None: nothing."""
        if known is not None and known.options is self.options:
            self.token, self.traffic_token = known.token, known.traffic_token
        else:
            self.token = access_token(seed, self.sandbox_id) if self.options.secure else None
            self.traffic_token = None if self.options.public else traffic_token(seed, self.sandbox_id)

    @property
    def template(self) -> str:
        """Name clients use for the template."""
        own = self.sandbox.meta.labels
        return own.get(labels.TEMPLATE) or own.get(labels.POOL, "")

    @property
    def alias(self) -> str:
        """Name by which the client asked for the template, else the template's own."""
        return self.options.alias or self.template

    @property
    def address(self) -> str:
        """IP of the sandbox's pod; empty when it has none."""
        status = self.sandbox.status
        return status.sandbox_ip or status.pod_info.pod_ip


def sandbox_id_of(sandbox: Sandbox) -> str:
    """Id of the current delivery; empty for a pool member."""
    return sandbox.meta.labels.get(labels.SANDBOX_ID, "")


def traffic_token(seed: bytes, sandbox_id: str) -> str:
    """Token of a private sandbox's user ports, derived like the runtime's, under a name no sandbox can have."""
    return access_token(seed, f"{sandbox_id}/traffic")


class Observer(Protocol):
    """Told of every sandbox's way; must not raise."""

    def moved(self, entry: Entry, before: Run | None, run: Run) -> None:
        """It was seen changing, or for the first time (``before`` None)."""
        ...

    def ended(self, entry: Entry, *, killed: bool) -> None:
        """It is gone; ``killed``: through this replica."""
        ...


class Roster:
    """Delivered sandboxes by id. Not thread-safe; belongs to the loop of its informer."""

    def __init__(
        self,
        sandboxes: Informer[Sandbox],
        *,
        seed: bytes,
        now: Callable[[], datetime],
        on_lost: Callable[[str], object] = lambda _id: None,
    ) -> None:
        self._entries: dict[str, Entry] = {}
        self._by_request: dict[str, str] = {}
        self._buried: dict[str, str] = {}
        self._seed = seed
        self._now = now
        self.on_lost = on_lost
        self.observers: list[Observer] = []
        for sandbox in sandboxes.items():
            self._changed(None, sandbox)
        sandboxes.subscribe(self._changed)

    def get(self, sandbox_id: str) -> Entry | None:
        """The entry of ``id`` or ``id-clientid``, whatever its state; None when unknown or killed."""
        return self._entries.get(sandbox_id.partition("-")[0])

    def run_of(self, entry: Entry) -> Run:
        """Where it is in its life, now."""
        return run_of(entry.sandbox, self._now())

    def visible(self, key: ApiKey) -> Iterable[tuple[Entry, Run]]:
        """Everything the key may see that is running or paused, in no order."""
        now = self._now()
        for entry in list(self._entries.values()):
            if key.may_see(entry.sandbox.namespace):
                run = run_of(entry.sandbox, now)
                if run not in (Run.GONE, Run.STARTING):
                    yield entry, run

    def delivered(self) -> list[tuple[Entry, Run]]:
        """All of them, whatever their state."""
        now = self._now()
        return [(entry, run_of(entry.sandbox, now)) for entry in self._entries.values()]

    def counts(self) -> dict[Run, int]:
        """How many there are in each state."""
        now = self._now()
        counts = dict.fromkeys(Run, 0)
        for entry in self._entries.values():
            counts[run_of(entry.sandbox, now)] += 1
        return counts

    def by_request(self, digest: str) -> Entry | None:
        """The living sandbox that a request with this idempotency digest made."""
        sandbox_id = self._by_request.get(digest)
        entry = self._entries.get(sandbox_id) if sandbox_id else None
        return None if entry is None or self.run_of(entry) is Run.GONE else entry

    def bury(self, sandbox: Sandbox) -> None:
        """Make a sandbox unknown at once: its deletion is about to be sent."""
        while len(self._buried) >= MAX_BURIED:
            del self._buried[next(iter(self._buried))]
        self._buried[sandbox.uid] = sandbox_id_of(sandbox)
        self._drop(sandbox, killed=True)

    def is_buried(self, sandbox: Sandbox) -> bool:
        """Whether its deletion is under way, or done."""
        return sandbox.uid in self._buried

    def was_killed(self, sandbox_id: str) -> bool:
        """Whether this id was killed here and its object is not gone yet."""
        return sandbox_id in self._buried.values()

    def unbury(self, sandbox: Sandbox) -> None:
        """The deletion failed for certain: it is known again, as ``sandbox`` describes it."""
        if self._buried.pop(sandbox.uid, None) is not None:
            self._changed(None, sandbox)

    def _changed(self, old: Sandbox | None, new: Sandbox | None) -> None:
        if new is None:
            if old is not None:
                self._buried.pop(old.uid, None)
                self._drop(old)
            return
        if old is not None and sandbox_id_of(old) != sandbox_id_of(new):
            self._drop(old)
        if not sandbox_id_of(new) or in_pool(new) or new.uid in self._buried:
            return
        self._file(new)

    def _file(self, sandbox: Sandbox) -> None:
        known = self._entries.get(sandbox_id_of(sandbox))
        entry = Entry(sandbox, self._seed, known)
        self._entries[entry.sandbox_id] = entry
        if entry.options.request:
            self._by_request[entry.options.request] = entry.sandbox_id
        before = run_of(known.sandbox, self._now()) if known is not None else None
        run = self.run_of(entry)
        if before is Run.RUNNING and run is not Run.RUNNING:
            self.on_lost(entry.sandbox_id)
        for observer in self.observers:
            observer.moved(entry, before, run)

    def _drop(self, sandbox: Sandbox, *, killed: bool = False) -> None:
        entry = self._entries.get(sandbox_id_of(sandbox))
        if entry is None or entry.sandbox.uid != sandbox.uid:
            return
        del self._entries[entry.sandbox_id]
        if entry.options.request and self._by_request.get(entry.options.request) == entry.sandbox_id:
            del self._by_request[entry.options.request]
        self.on_lost(entry.sandbox_id)
        for observer in self.observers:
            observer.ended(entry, killed=killed)
