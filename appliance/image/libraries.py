"""Which shared libraries a set of programs needs on this machine, asked of the machine's own loader.

The loader lists what it would load (``--list``), with the paths it found; nothing is guessed from names. What the
loader itself belongs to, libc, comes with it, so that the set is whole wherever it is copied.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

_LINE = re.compile(r"^\s*(\S+)(?: => (\S+))? \(0x[0-9a-f]+\)$")


class LibraryMissing(RuntimeError):
    """A library that a module needs is not on this machine; the text names both."""


def loader(program: Path) -> Path:
    """The loader that ``program`` (ELF, 64 bit, little endian) names. Raises ``ValueError`` when it names none."""
    data = program.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{program}: expected a 64-bit ELF program")
    offset, size, count = (int.from_bytes(data[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
    for number in range(count):
        header = data[offset + number * size :][:size]
        if int.from_bytes(header[:4], "little") == 3:  # PT_INTERP
            at, length = int.from_bytes(header[8:16], "little"), int.from_bytes(header[32:40], "little")
            return Path(data[at : at + length].rstrip(b"\0").decode())
    raise ValueError(f"{program}: statically linked, it names no loader")


def needed(programs: Iterable[Path], with_loader: Path) -> dict[str, Path]:
    """Name → file of every library that ``programs`` load, their own bundled ones excepted.

    Raises:
        LibraryMissing: one of them is not found.
    """
    found: dict[str, Path] = {}
    for program in programs:
        done = subprocess.run([str(with_loader), "--list", str(program)], capture_output=True, text=True, check=False)
        if "not found" in done.stdout + done.stderr or done.returncode:
            raise LibraryMissing(f"{program}: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
        for line in done.stdout.splitlines():
            match = _LINE.match(line)
            if match and match[2] and not _beside(Path(match[2]), program):
                found[match[1]] = Path(match[2])
    found.pop(with_loader.name, None)
    return found


def _beside(library: Path, program: Path) -> bool:
    """Whether a wheel brought the library itself (``NAME.libs``); it is found there relative to the module."""
    return any(part.endswith(".libs") for part in library.parts) and library.parts[:3] == program.parts[:3]
