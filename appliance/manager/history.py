"""What outlives a manager: logs, metrics and counts, in a file beside its control socket, read by the next one there.

Every ``INTERVAL`` and at the end, journal, samples, team metrics and deliveries are written whole, newest first up to
``MAX_BYTES``, and put in the old file's place; a manager that is killed loses what came after the last writing. A line
of JSON per sandbox, team or template: an unreadable one costs no other. On a box the file is in the data directory; in
a pod it lasts as long as the volume that the socket is on. Encoding pauses often: requests come first.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from appliance.manager.guest import Guests, RuntimeMetrics
from appliance.manager.journal import Journal, Line, Record
from appliance.manager.runstate import Run
from appliance.manager.spawns import Spawned, Spawns
from appliance.manager.team_metrics import Sample, TeamMetrics

INTERVAL: Final = 30.0
"""Seconds between two writings."""
MAX_BYTES: Final = 32 * 1024 * 1024
"""Of the file; what changed longest ago is left out first."""
PORTION: Final = 256 * 1024
"""Bytes that are encoded at a stretch."""
logger = logging.getLogger(__name__)


class KeptSandbox(msgspec.Struct, tag="sandbox", omit_defaults=True):
    """One sandbox, living or ended."""

    id: str
    namespace: str
    template: str
    run: str | None = None
    ended: datetime | None = None
    lines: list[Line] = []
    samples: list[RuntimeMetrics] = []


class KeptTeam(msgspec.Struct, tag="team"):
    """One team."""

    name: str
    samples: list[Sample]


class KeptTemplate(msgspec.Struct, tag="template"):
    """One template's deliveries."""

    namespace: str
    name: str
    count: int
    last: datetime


Kept = KeptSandbox | KeptTeam | KeptTemplate


class History:
    """Keeps what ``journal``, ``guests``, ``teams`` and ``spawns`` know in ``path``."""

    def __init__(self, path: Path, journal: Journal, guests: Guests, teams: TeamMetrics, spawns: Spawns) -> None:
        self._path = path
        self._journal = journal
        self._guests = guests
        self._teams = teams
        self._spawns = spawns
        self._written = b""
        """Digest of what the file holds."""

    def recover(self, living: Collection[str]) -> None:
        """Read what an earlier manager left; sandboxes that are not among the ``living`` ids ended meanwhile."""
        lines: list[bytes] = []
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            lines = file.read(MAX_BYTES).splitlines()
        for line in reversed(lines):  # oldest first: what is restored last counts as newest
            try:
                self._restore(_DECODER.decode(line))
            except msgspec.DecodeError as error:
                logger.warning("%s: a line is not readable and left out: %s", self._path, error)
        self._journal.settle(living)

    async def run(self) -> None:
        """Write every ``INTERVAL``, for ever."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.save()

    async def save(self) -> None:
        """Write now. A disk that takes nothing costs the memory of a restart, nothing else."""
        text = await self._encode()
        digest = hashlib.blake2b(text).digest()
        if digest == self._written:
            return
        try:
            await asyncio.to_thread(_replace, self._path, text)
        except OSError as error:
            logger.warning("%s: %s: logs and metrics would not outlive this manager", self._path, error)
            return
        self._written = digest

    async def _encode(self) -> bytes:
        text, portion = bytearray(), 0
        for kept in self._all():
            line = msgspec.json.encode(kept)
            if len(text) + len(line) >= MAX_BYTES:
                break
            text += line + b"\n"
            portion += len(line)
            if portion > PORTION:
                portion = 0
                await asyncio.sleep(0)
        return bytes(text)

    def _all(self) -> Iterator[Kept]:
        """Templates and teams, then sandboxes, newest first; what comes and goes meanwhile may be in it or not."""
        for namespace, template, spawned in reversed(list(self._spawns.all())):
            yield KeptTemplate(namespace, template, spawned.count, spawned.last)
        for name, taken in self._teams.all().items():
            yield KeptTeam(name, list(taken))
        for sandbox_id, record in self._journal.newest():
            samples = list(self._guests.history(sandbox_id))
            run = record.run.name if record.run is not None else None
            lines = list(record.lines)
            yield KeptSandbox(sandbox_id, record.namespace, record.template, run, record.ended, lines, samples)

    def _restore(self, kept: Kept) -> None:
        if isinstance(kept, KeptTemplate):
            self._spawns.restore(kept.namespace, kept.name, Spawned(kept.count, kept.last))
            return
        if isinstance(kept, KeptTeam):
            self._teams.restore(kept.name, kept.samples)
            return
        record = Record(kept.namespace, kept.template, run=Run.__members__.get(kept.run or ""), ended=kept.ended)
        record.lines.extend(kept.lines)
        self._journal.restore(kept.id, record)
        self._guests.restore(kept.id, kept.samples)


_DECODER: Final[msgspec.json.Decoder[Kept]] = msgspec.json.Decoder(Kept)


def _replace(path: Path, text: bytes) -> None:
    """The file anew, complete at every moment."""
    fresh = path.with_name(f".{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(text)
    fresh.replace(path)
