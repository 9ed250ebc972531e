"""What is inside a bundle: a list with checksums, written first, and the check of every member against it.

The list is ``bundle.json``; ``SHA256SUMS`` says the same for ``sha256sum -c`` on a machine without Python.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

LIST, SUMS = "bundle.json", "SHA256SUMS"
FORMAT = 1
KINDS = ("program", "image", "chart", "sandbox-image", "text")
_CHUNK = 1 << 20
_MAX_LIST = 4 << 20
"""Bytes of a list; a larger one is refused."""


class BadBundle(ValueError):
    """The file is no bundle that can be used; the text names the file and says what is wrong."""


@dataclass(frozen=True)
class Entry:
    """One member."""

    name: str
    kind: str
    """One of ``KINDS``."""
    size: int
    sha256: str
    images: tuple[str, ...] = ()
    """Names of the images in an archive."""


@dataclass(frozen=True)
class Contents:
    """The list."""

    version: str
    """Of the program inside."""
    entries: tuple[Entry, ...]

    def encode(self) -> bytes:
        """The list as JSON; the same contents give the same bytes."""
        made = {"format": FORMAT, "version": self.version, "entries": [asdict(entry) for entry in self.entries]}
        return json.dumps(made, indent=1).encode() + b"\n"

    def sums(self) -> bytes:
        """For ``sha256sum -c``."""
        return "".join(f"{entry.sha256}  {entry.name}\n" for entry in self.entries).encode()

    def of_kind(self, kind: str) -> list[Entry]:
        """The entries of one kind, in order."""
        return [entry for entry in self.entries if entry.kind == kind]


@contextmanager
def opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The bundle as a tar file; damage met while it is open becomes ``BadBundle``."""
    try:
        with tarfile.open(path, "r:") as tar:
            yield tar
    except BadBundle as error:
        raise BadBundle(f"{path}: {error}") from None
    except (tarfile.TarError, EOFError) as error:
        raise BadBundle(f"{path}: not a bundle, or damaged ({error}); copy it again") from error


def read(tar: tarfile.TarFile) -> Contents:
    """The list of an opened bundle. Raises ``BadBundle``."""
    first = tar.next()
    if first is None or first.name != LIST or (stream := tar.extractfile(first)) is None:
        raise BadBundle(f"not a bundle of this program: {LIST} is not its first member")
    try:
        found = json.loads(stream.read(_MAX_LIST))
        if found["format"] != FORMAT:
            raise BadBundle(f"format {found['format']} is not known to this version, which reads {FORMAT}")
        entries = tuple(Entry(**{**entry, "images": tuple(entry["images"])}) for entry in found["entries"])
        made = Contents(str(found["version"]), entries)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, BadBundle):
            raise
        raise BadBundle(f"{LIST} is damaged ({error!r}); copy the bundle again") from error
    for entry in made.entries:
        if entry.kind not in KINDS or entry.name.startswith("/") or ".." in Path(entry.name).parts:
            raise BadBundle(f"{LIST} names {entry.name!r} of kind {entry.kind!r}, which no bundle has")
    return made


def check(path: Path) -> Contents:
    """Every member against the list, and the list against its sums.

    Raises:
        BadBundle: names the file and the member that is missing, added, truncated or changed.
        OSError: the file cannot be read.
    """
    with opened(path) as tar:
        contents = read(tar)
        expected = {entry.name: entry for entry in contents.entries}
        seen = {LIST}
        for member in iter(tar.next, None):
            if member.name in seen or (member.name not in expected and member.name != SUMS) or not member.isfile():
                raise BadBundle(f"{member.name} does not belong there: tampered with; do not use it")
            seen.add(member.name)
            size, digest = _measured(tar, member)
            entry = expected.get(member.name)
            if entry is None:
                entry = Entry(SUMS, "text", len(contents.sums()), hashlib.sha256(contents.sums()).hexdigest())
            if (size, digest) != (entry.size, entry.sha256):
                raise BadBundle(f"{member.name} is not what the list says: damaged or tampered with; do not use it")
        if missing := [name for name in (*expected, SUMS) if name not in seen]:
            raise BadBundle(f"{', '.join(missing)} missing: the copy is truncated; copy it again")
    return contents


def _measured(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[int, str]:
    stream = tar.extractfile(member)
    assert stream is not None
    made, size = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK):
        made.update(chunk)
        size += len(chunk)
    if size != member.size:
        raise BadBundle(f"{member.name} ends after {size} of {member.size} bytes: truncated; copy the bundle again")
    return size, made.hexdigest()
