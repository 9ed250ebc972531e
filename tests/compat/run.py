"""Runs the probes of every pinned release against one box and says what works: the compatibility table.

``packaging/compat.sh`` installs the releases and starts this. The box serves a domain over TLS with its own resolver,
because the oldest releases know no other way; each client runs in a mount namespace whose resolv.conf names that
resolver, so the machine's own is left alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from boxes import RunningBox, environment, free_port, launch
from table import Cells, Outcome, merge, order, read, regressions, render, write

HERE = Path(__file__).parent
RELEASES = HERE / "releases"
LIMIT = 600
"""Seconds for one program of one release; what it has not answered by then hangs."""


ORDER = ("cli.py", "interpreter.py", "sdk.py", "interpreter.mjs", "sdk.mjs")
"""Programs that take longest first, so that none is left alone at the end."""
AT_ONCE = 5
"""Programs at the same time: on two processors more than that gains nothing."""


@dataclass(frozen=True)
class Job:
    """One probe program with one release."""

    release: str
    """Name of its directory below ``releases``."""
    client: str
    version: str
    program: str


def jobs(names: list[str]) -> list[Job]:
    """What there is to run, longest first."""
    found = []
    for directory in sorted(RELEASES.iterdir()):
        if names and directory.name not in names:
            continue
        for client, version in pinned(directory).items():
            program = {
                "Python e2b": "sdk.py", "Python e2b-code-interpreter": "interpreter.py", "JavaScript e2b": "sdk.mjs",
                "JavaScript @e2b/code-interpreter": "interpreter.mjs", "@e2b/cli": "cli.py",
            }[client]  # fmt: skip
            found.append(Job(directory.name, client, version, program))
    return sorted(found, key=lambda job: ORDER.index(job.program))


def pinned(directory: Path) -> dict[str, str]:
    """Client → version that a release directory asks for."""
    if directory.name.startswith("python-"):
        lines = (directory / "requirements.in").read_text().split()
        return {f"Python {name}": version for name, _, version in (line.partition("==") for line in lines)}
    wanted = json.loads((directory / "package.json").read_text())["dependencies"]
    return {("" if name == "@e2b/cli" else "JavaScript ") + name: version for name, version in wanted.items()}


@contextmanager
def started_box() -> Iterator[tuple[RunningBox, str]]:
    """A box with a domain, and the address of its resolver."""
    directory = Path(tempfile.mkdtemp(prefix="appliance-compat-"))
    resolver = (
        f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"  # loopback is wide: no clash with another box
    )
    tls = f"127.0.0.1:{free_port()}"
    extra = ("--domain", "sbx.test", "--tls-listen", tls, "--dns-listen", f"{resolver}:53")
    box = launch(directory, pool=8, extra=extra)
    try:
        box.wait_ready()
        yield box, resolver
    finally:
        if box.process.poll() is None:
            box.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _ends(todo: list[Job]) -> set[Job]:
    """The first and the last release of each client."""
    clients = {job.client for job in todo}
    own = [[job for job in todo if job.client == client] for client in clients]
    return {pick(mine, key=lambda job: order(job.version)) for mine in own for pick in (min, max)}


def _sandbox(box: RunningBox) -> str:
    """A sandbox for all programs, where the kernels run that are slow to start; ends with the box."""
    headers = {"X-API-Key": box.env["E2B_API_KEY"], "Content-Type": "application/json"}
    body = json.dumps({"templateID": "code-interpreter", "timeout": 3600}).encode()
    request = urllib.request.Request(box.env["E2B_API_URL"] + "/sandboxes", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        made: str = json.load(answer)["sandboxID"]
    return made


def outcomes(
    job: Job, box: RunningBox, resolver: str, cache: Path, only: str, modes: str, languages: str
) -> dict[str, Outcome]:
    """Run one program to its end: feature → what happened."""
    with tempfile.TemporaryDirectory(prefix="appliance-compat-") as place:
        home = Path(place)
        (home / "resolv.conf").write_text(f"nameserver {resolver}\n")
        installed = cache / job.release
        if job.program.endswith(".mjs"):
            (home / "node_modules").symlink_to(installed / "node_modules")
            for file in (HERE / "probes").glob("*.mjs"):
                shutil.copy(file, home)
            command = ["node", str(home / job.program)]
        elif job.program == "cli.py":
            command = [sys.executable, str(HERE / "probes/cli.py")]
        else:
            command = [str(installed / "bin/python"), "-W", "ignore", str(HERE / "probes" / job.program)]
        trust = {name: box.env[name] for name in ("E2B_API_KEY", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")}
        env = {**environment(), **trust, "E2B_DOMAIN": box.domain, "HOME": place, "NO_COLOR": "1", "PYTHONPATH": "",
               "COMPAT_MODES": modes, "COMPAT_LANGUAGES": languages,
               "E2B_ACCESS_TOKEN": box.env["E2B_API_KEY"],
               "COMPAT_API_URL": box.env["E2B_API_URL"], "COMPAT_SANDBOX_URL": box.env["E2B_SANDBOX_URL"],
               "COMPAT_CLI": str(installed / "node_modules/.bin/e2b"), "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
        resolv = shlex.quote(str(home / "resolv.conf"))
        script = f"mount --bind {resolv} /etc/resolv.conf && exec {shlex.join([*command, only])}"
        log = home / "out"
        with log.open("wb") as out:
            running = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], env=env, stdout=out, stderr=out)
            try:
                running.wait(LIMIT)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
        text = log.read_text(errors="replace")
    if only:
        print(text)
    if keep := os.environ.get("COMPAT_KEEP"):
        Path(keep, f"{job.release}-{job.program}.log").write_text(text)
    found = merged(text)
    if not found and not only:
        raise AssertionError(f"{job.program} of {job.client} {job.version} did not start:\n{text[-3000:]}")
    return found


def merged(text: str) -> dict[str, Outcome]:
    """What a program printed: feature → outcome, both modes in one."""
    modes: dict[str, dict[str, Outcome]] = {}
    for line in text.splitlines():
        if line.startswith('{"mode"'):
            said = json.loads(line)
            hung = f"does not answer within {LIMIT} s"
            modes.setdefault(said["feature"], {})[said["mode"]] = said.get("outcome", hung)
    found = {}
    for feature, by_mode in modes.items():
        kinds = set(by_mode.values())
        together = "; ".join(f"{mode}: {outcome}" for mode, outcome in by_mode.items())
        found[feature] = kinds.pop() if len(kinds) == 1 else together
    return found


def measure(names: list[str], cache: Path, only: str = "", at_once: int = AT_ONCE, *, brief: bool = False) -> Cells:
    """Start a box and run everything: client → version → feature → outcome.

    ``brief`` leaves the asynchronous Python classes of the releases between first and last out: half the time.
    """
    cells: Cells = {}
    todo = jobs(names)
    ends = _ends(todo) if brief else set(todo)
    with started_box() as (box, resolver), ThreadPoolExecutor(at_once) as threads:
        modes = {job: "all" if job in ends else "sync" for job in todo}
        shared = _sandbox(box)
        results = threads.map(lambda job: outcomes(job, box, resolver, cache, only, modes[job], shared), todo)
        for job, result in zip(todo, results, strict=True):
            cells.setdefault(job.client, {})[job.version] = result
    return cells


def main() -> int:
    """The command line of packaging/compat.sh."""
    parser = argparse.ArgumentParser(prog="packaging/compat.sh")
    parser.add_argument("releases", nargs="*", metavar="NAME", help="only these directories of tests/compat/releases")
    parser.add_argument("--write", action="store_true", help="put what a partial run saw into the documents too")
    parser.add_argument("--check", action="store_true", help="fail when a cell that was ✓ is so no longer")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only features whose name has TEXT; shows all output"
    )
    parser.add_argument(
        "--at-once", type=int, default=AT_ONCE, metavar="N", help=f"programs at the same time (default {AT_ONCE})"
    )
    options = parser.parse_args()
    cache = Path(os.environ["APPLIANCE_TEST_COMPAT"])
    cells = measure(options.releases, cache, options.only, options.at_once, brief=options.check)
    if options.check:
        lost = regressions(read(), cells)
        print("\n".join(lost) or "every cell that was ✓ still is")
        return 1 if lost else 0
    partial = bool(options.releases or options.only)
    if partial:
        print(render(cells))
    if options.write or not partial:
        write(merge(read(), cells) if partial else cells)
    return 0


if __name__ == "__main__":
    sys.exit(main())
