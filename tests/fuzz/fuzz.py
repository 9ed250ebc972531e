"""Coverage-guided fuzzing of one target, or of each in turn (packaging/fuzz.sh starts this where atheris is installed).

The kept inputs are the seeds. A finding ends the run of its target, is put beside them under its hash, and fails
``test_corpus.py`` from then on until it is mended.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def campaign(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; True when it held."""
    with tempfile.TemporaryDirectory(prefix="appliance-fuzz-") as new:
        command = [
            sys.executable, __file__, "--inside", name, new, str(HERE / "corpus" / name), f"-max_total_time={seconds}",
            "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={HERE / 'corpus' / name}/found-",
            "-print_final_stats=1", "-verbosity=0",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, check=False)
    print(f"{name}: {'held' if done.returncode == 0 else 'FOUND SOMETHING, see above and git status'}", flush=True)
    return done.returncode == 0


def inside(name: str, arguments: list[str]) -> None:
    """The fuzzing process itself."""
    import atheris

    with atheris.instrument_imports(include=["appliance", "h11"], enable_loader_override=False):
        from targets import TARGETS

    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    """The command line of packaging/fuzz.sh."""
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2], sys.argv[3:])
        return 0
    names = sorted(path.name for path in (HERE / "corpus").iterdir())
    parser = argparse.ArgumentParser(prog="packaging/fuzz.sh")
    parser.add_argument("target", nargs="?", default="all", choices=["all", *names])
    parser.add_argument("seconds", nargs="?", type=int, default=60, help="for each target (default 60)")
    options = parser.parse_args()
    held = [campaign(name, options.seconds) for name in names if options.target in ("all", name)]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
