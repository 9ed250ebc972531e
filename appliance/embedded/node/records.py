"""What the node keeps on disk per pod, so that a new agent finds every sandbox of the one before: ``node/pods/UID/``.

``record.json`` (who, which slot, which processes), ``CONTAINER.exit.json`` (written by the template), logs, the
layer. Written whole and renamed; a torn or foreign record counts as none.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

import msgspec

from appliance.embedded.node.request import Exited

log = logging.getLogger(__name__)


class ContainerRecord(msgspec.Struct):
    """One container of a record."""

    pid: int = 0
    """Of the present run, or of the last one while its restart is not counted in ``restarts``."""
    start: int = 0
    since: float = 0.0
    """When that run began, in Unix seconds."""
    restarts: int = 0
    started: bool = False
    ready: bool = False
    final_code: int | None = None
    """Exit status of a container that is not started again."""
    final_reason: str = ""
    """Why it ended, with ``final_code``; empty in records of earlier versions, which also gave every container that the
    node ended with itself an exit status."""
    image: str = ""
    """Image it was started from; empty in records of earlier versions."""
    layer: int = 0
    """How often the image was changed: each has a writable layer of its own."""


class Record(msgspec.Struct):
    """One pod."""

    uid: str
    namespace: str
    name: str
    slot: int
    start_time: float
    generation: int = 0
    """Counts network namespaces, so that a new one's link never meets the old one's name."""
    boots: int = 0
    """How often the pod was halted, which is how often it boots anew."""
    clean_stop: bool = False
    """The node stopped this pod with itself; the next start runs it again on its layer."""
    containers: dict[str, ContainerRecord] = msgspec.field(default_factory=dict)

    @property
    def boot_id(self) -> str | None:
        """What ``/proc/sys/kernel/random/boot_id`` shows inside; None: the box's own, until the first halt.

        Only then is something mounted over it: whoever sees a masked /proc cannot mount a new one in a namespace of
        his own, as sandboxes within the sandbox do.
        """
        if not self.boots:
            return None
        digest = hashlib.sha256(f"{self.uid}/{self.boots}".encode()).digest()
        return str(uuid.UUID(bytes=digest[:16], version=4))


class Records:
    """The directory of all pods."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._unwritten: dict[str, Record] = {}

    def path(self, uid: str) -> Path:
        """Directory of one pod."""
        return self.directory / uid

    def load(self) -> dict[str, Record]:
        """All readable records by uid; directories without one are removed."""
        found: dict[str, Record] = {}
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in self.directory.iterdir():
            record = self.read(path.name)
            if record is None:
                shutil.rmtree(path, ignore_errors=True)
            else:
                found[record.uid] = record
        return found

    def read(self, uid: str) -> Record | None:
        """One record, None when there is none that can be read."""
        try:
            record = msgspec.json.decode((self.path(uid) / "record.json").read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None
        return record if record.uid == uid else None

    def write(self, record: Record) -> None:
        """Replace the record. One that the disk has no room for is kept for ``write_again`` and the log says so:
        the sandbox lives on, only an agent that is killed meanwhile would not know it.
        """
        try:
            self._replace(record)
        except OSError as error:
            if record.uid not in self._unwritten:
                log.error("pod %s/%s: record not written, trying on: %s", record.namespace, record.name, error)
            self._unwritten[record.uid] = record
        else:
            self._unwritten.pop(record.uid, None)

    def write_again(self) -> int:
        """Try the records that could not be written; how many still cannot."""
        for record in list(self._unwritten.values()):
            self.write(record)
        return len(self._unwritten)

    def _replace(self, record: Record) -> None:
        directory = self.path(record.uid)
        directory.mkdir(parents=True, exist_ok=True)
        fresh = directory / ".record.new"
        fresh.write_bytes(msgspec.json.encode(record))
        fresh.rename(directory / "record.json")

    def exit_file(self, uid: str, container: str) -> Path:
        """Where the template writes a container's end."""
        return self.path(uid) / f"{container}.exit.json"

    def exited(self, uid: str, container: str, pid: int, start: int) -> Exited | None:
        """The end of that very process, None while it is not written."""
        try:
            event = msgspec.json.decode(self.exit_file(uid, container).read_bytes(), type=Exited)
        except (OSError, msgspec.MsgspecError):
            return None
        return event if (event.pid, event.start) == (pid, start) else None

    def remove(self, uid: str) -> None:
        """Forget a pod with its layer and logs.

        Renamed first: the template may be about to write an exit file there, and a directory that gets a new file
        while it is being emptied stays. Where renaming fails nothing is there, or the next ``load`` sweeps it.
        """
        self._unwritten.pop(uid, None)
        doomed = self.directory / f".{uid}.gone"
        with suppress(OSError):
            self.path(uid).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


class Slots:
    """Small numbers, one per pod: its id range, address and link name derive from it. Reused as late as possible."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used: set[int] = set()
        self._next = 0

    def take(self, slot: int | None = None) -> int:
        """A free slot, or that one. Raises ``OverflowError`` when none is free."""
        if slot is None:
            if len(self._used) >= self._size:
                raise OverflowError(f"all {self._size} pod slots of this node are taken")
            while self._next in self._used:
                self._next = (self._next + 1) % self._size
            slot, self._next = self._next, (self._next + 1) % self._size
        self._used.add(slot)
        return slot

    def give(self, slot: int) -> None:
        """Back to the free ones."""
        self._used.discard(slot)
