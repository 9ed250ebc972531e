"""Builds ``dist/appliance.pyz`` (see ``packaging/build.sh``), checks its budget and prints the start-up table."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from pyz.assemble import assemble
from pyz.collect import collect

ROOT = Path(__file__).parents[2]
BUDGET = 30_000_000
"""Bytes the file may have; a bigger one is refused."""


def main() -> int:
    """Build; returns 0, or 1 with one line on standard error."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("-o", "--output", type=Path, default=ROOT / "dist" / "appliance.pyz")
    options.add_argument("--no-table", action="store_true", help="do not measure starts")
    chosen = options.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="appliance-build-") as work:
            tree = collect(ROOT, ROOT / "packaging" / "requirements-pyz.lock", Path(work))
            assemble(tree, chosen.output)
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
