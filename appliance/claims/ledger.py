"""Where the time of claims went: noted for each, published for many.

Noting is a few assignments in memory. Publishing is one write of one small ConfigMap per process, at most every
``PERIOD`` seconds and only when there is something new, never on the path of a claim: a claim still costs one write.
The map's name is one of ``NAMES`` per role, chosen by the host's name, so that replicas that come and go leave nothing
behind; two that share a name overwrite each other, and who watches has seen both. Losing a report loses nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from zlib import crc32

from appliance.api import claimreport, kinds, labels
from appliance.api.claimreport import Delivery, Failure, Report, Waiting
from appliance.claims.request import Claimed, ClaimRequest
from appliance.kube import errors
from appliance.kube.cluster import Cluster

PERIOD = 2.0
"""Seconds between two writes at least."""
GATHER = 0.2
"""Seconds from news to their write: the answer of the claim that made them goes first."""
KEPT = 150
"""Deliveries told; at some 120 bytes each the map stays below 20 KB."""
FAILURES = 20
LATE = 1.0
"""Seconds after which a claim on its way is told of."""
TOLD = 50
"""Claims on their way told of, the oldest first."""
WORDS = 200
"""Characters of an error that are told."""
NAMES = 16
log = logging.getLogger(__name__)


@dataclass(eq=False)
class Course:
    """What one claim has done so far; instants are of ``time.perf_counter``."""

    request: ClaimRequest
    started: float = field(default_factory=time.perf_counter)
    stage: str = "picking"
    lock: str = ""
    queued: float = 0.0
    """Seconds spent waiting for a turn."""
    picked: float = 0.0
    written: float = 0.0
    ready: float = 0.0
    conflicts: int = 0


class Ledger:
    """The claims of one engine: those on their way, and the last that ended."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._open: dict[Course, None] = {}
        self._deliveries: deque[Delivery] = deque(maxlen=KEPT)
        self._failures: deque[Failure] = deque(maxlen=FAILURES)
        self._news = asyncio.Event()

    @contextmanager
    def course(self, request: ClaimRequest) -> Iterator[Course]:
        """Follow a claim from here to its end; an error that leaves the block is noted.

        Not for a SandboxClaim: its controller tries again by itself, and its object says how it stands.
        """
        made = Course(request)
        self._open[made] = None
        late = asyncio.get_running_loop().call_later(LATE, self._news.set)
        try:
            yield made
        except BaseException as error:
            if labels.CLAIM_NAME in request.labels:
                raise
            words = "the client went away" if isinstance(error, asyncio.CancelledError) else str(error)
            now, took = self._now(), time.perf_counter() - made.started
            where = (request.namespace or "", request.template)
            self._failures.append(Failure(*where, now, round(took, 6), type(error).__name__, words[:WORDS]))
            self._news.set()
            raise
        finally:
            late.cancel()
            del self._open[made]

    def delivered(self, course: Course, claimed: Claimed) -> None:
        """Note a delivery."""
        spent = claimed.timings
        self._deliveries.append(
            Delivery(
                lock=course.lock,
                at=self._now(),
                queue=round(spent.queue, 6),
                pick=round(spent.pick, 6),
                write=round(spent.write, 6),
                ready=round(spent.ready, 6),
                init=round(spent.personalise, 6),
                how=claimed.how,
                conflicts=spent.conflicts,
            )
        )
        self._news.set()

    def report(self) -> Report:
        """Everything there is to tell now."""
        now, present = self._now(), time.perf_counter()
        here = (one for one in self._open if labels.CLAIM_NAME not in one.request.labels)
        late = [one for one in here if present - one.started >= LATE][:TOLD]
        waiting = [
            Waiting(
                one.request.namespace or "", one.request.template, now - (present - one.started), one.stage, one.lock
            )
            for one in late
        ]
        return Report(now, list(self._deliveries), waiting, list(self._failures))

    async def publish(self, cluster: Cluster, role: str) -> None:
        """Keep the ConfigMap of this process up to date until cancelled; what cannot be written is dropped."""
        name = f"{role}-claims-{crc32(socket.gethostname().encode()) % NAMES:x}"
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER)
            self._news.clear()
            report = self.report()
            try:
                await self._write(cluster, role, name, report)
            except errors.Forbidden as error:
                log.warning("the time of claims is not published: %s", error)
                await asyncio.Event().wait()
            except errors.KubeError as error:
                log.debug("the time of claims was not published: %s", error)
            await asyncio.sleep(PERIOD)
            if report.waiting:
                self._news.set()  # those who wait are told of for as long as they do, and once when they no longer do

    async def _write(self, cluster: Cluster, role: str, name: str, report: Report) -> None:
        meta = {"name": name, "labels": {labels.CLAIM_REPORT: role}}
        body = {"metadata": meta, "data": claimreport.encode(report)}
        await cluster.apply(kinds.CONFIGMAP, labels.SYSTEM_NAMESPACE, name, body, manager=name, force=True)

    def _now(self) -> float:
        return self._clock().timestamp()
