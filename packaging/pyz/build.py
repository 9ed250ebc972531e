"""Builds ``dist/appliance.pyz`` (see ``packaging/build.sh``), checks its budget and prints the start-up table.

``--check`` makes the file a second time, beside the first, in another process with another umask and another order of
sets, from the download of the libraries on, and refuses what does not have the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from contextlib import nullcontext
from pathlib import Path

from pyz.assemble import assemble
from pyz.collect import collect

ROOT = Path(__file__).parents[2]
BUDGET = 30_000_000
"""Bytes the file may have; a bigger one is refused."""


class Second:
    """Another whole build of the same checkout, started at once."""

    def __init__(self, first: Path) -> None:
        self._first = first
        self._place = tempfile.TemporaryDirectory(prefix="appliance-again-")
        self._file = Path(self._place.name, "again.pyz")
        command = [sys.executable, "-m", "pyz.build", "--no-table", "-o", str(self._file)]
        environment = {**os.environ, "PYTHONHASHSEED": "4711"}
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, umask=0o077)

    def compare(self) -> None:
        """Wait for it. Raises ``RuntimeError``, naming the members that differ."""
        if self._process.wait():
            raise RuntimeError("the second build failed")
        if self._first.read_bytes() == self._file.read_bytes():
            print(f"{self._first}: built twice, the same bytes")
            return
        with zipfile.ZipFile(self._first) as one, zipfile.ZipFile(self._file) as other:
            sums = [{entry.filename: entry.CRC for entry in opened.infolist()} for opened in (one, other)]
        different = sorted(name for name in sums[0].keys() | sums[1].keys() if sums[0].get(name) != sums[1].get(name))
        raise RuntimeError(f"two builds differ: {', '.join(different[:10]) or 'in order or compression'}")

    def __enter__(self) -> Second:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._place.cleanup()


def main() -> int:
    """Build; returns 0, or 1 with one line on standard error."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("-o", "--output", type=Path, default=ROOT / "dist" / "appliance.pyz")
    options.add_argument("--no-table", action="store_true", help="do not measure starts")
    options.add_argument("--check", action="store_true", help="build twice and compare the bytes")
    chosen = options.parse_args()
    try:
        with (
            Second(chosen.output) if chosen.check else nullcontext() as second,
            tempfile.TemporaryDirectory(prefix="appliance-build-") as work,
        ):
            tree = collect(ROOT, ROOT / "packaging" / "requirements-pyz.lock", Path(work))
            assemble(tree, chosen.output)
            if second is not None:
                second.compare()
    except (RuntimeError, OSError) as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    data = chosen.output.read_bytes()
    print(f"{chosen.output}: {len(data) / 1e6:.1f} MB, sha256 {hashlib.sha256(data).hexdigest()}")
    if len(data) > BUDGET:
        print(f"build: the file has {len(data)} bytes, its budget is {BUDGET}", file=sys.stderr)
        return 1
    if not chosen.no_table:
        command = [sys.executable, str(Path(__file__).with_name("measure.py")), str(chosen.output)]
        table = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        chosen.output.with_name("startup.txt").write_text(table)
        print(table, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
