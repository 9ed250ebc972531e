"""The speed table of the runtime: every row beside the client's own floor, and for commands beside their bare spawn.

    PYTHONPATH=. .venv-test/bin/python tests/bench/runtime_speed [--rounds 3] [--only TEXT] [--quick]

Needs root for a command user of its own (without, commands run as you). The runtime measured is a supervisor with
server and kernel, forked from this process as the node's template forks sandboxes. Client and server share the
machine's processors, and others may load them, so: several rounds, min and median of the rounds' medians, the floor
(same client, canned answers) and the server's own processor time per call, which load does not change. A row is
``met`` when its best round meets the goal and ``MET`` when the median round does.

``--box`` measures through a box instead, with E2B_API_KEY, E2B_API_URL and E2B_SANDBOX_URL as ``appliance env`` prints
them: gateway and isolation are in every figure, goals are the runtime's alone and shown for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[3])]

import rows
import sdk
from client import Target
from servers import UID, Alone, Forked, cpu_seconds, end, pss_mib, start_canned

from appliance.runtime import supervisor

SANDBOXES = 10
_WIDTH = 36


def print_head() -> None:
    """How busy the machine is, and column names."""
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; goals are for a quiet machine")
    print(f"{'':{_WIDTH}} {'min':>8} {'median':>8} {'':4} {'floor':>8} {'bare':>6} {'cpu ms':>7} {'goal':>8}")


def print_row(
    name: str, values: list[float], unit: str, goal: float, *, floor: float = 0, bare: float = 0, cpu: float = 0
) -> None:
    """One line; ``values`` are the rounds', in the unit."""
    rate = unit != "ms" and unit != "MiB"
    best, middle = (max if rate else min)(values), statistics.median(values)
    verdict = ""
    if goal:
        holds: Callable[[float], bool] = (lambda v: v >= goal) if rate else (lambda v: v <= goal)
        verdict = "MET" if holds(middle) else "met" if holds(best) else "MISSED"
    wanted = f"{'≥' if rate else '≤'} {goal:g}" if goal else ""
    cells = [
        f"{v:{w}.2f}" if v and v < 100 else f"{v:{w}.0f}" if v else " " * w
        for v, w in ((floor, 8), (bare, 6), (cpu, 7))
    ]
    numbers = " ".join(f"{v:8.2f}" if v < 100 else f"{v:8.0f}" for v in (best, middle))
    print(f"{name:{_WIDTH}} {numbers} {unit:4} {' '.join(cells)} {wanted:>8} {verdict}", flush=True)


def bare_spawn(argv: tuple[str, ...], times: int = 100) -> float:
    """Milliseconds of ``posix_spawn`` and wait, from a small process; the median."""
    program = f"""
import os, time, statistics
spans = []
null = [(os.POSIX_SPAWN_OPEN, n, '/dev/null', os.O_RDWR, 0) for n in (0, 1, 2)]
for _ in range({times}):
    began = time.perf_counter()
    pid = os.posix_spawn({argv[0]!r}, {list(argv)!r}, {{'PATH': '/usr/bin:/bin', 'HOME': '/'}}, file_actions=null)
    os.waitpid(pid, 0)
    spans.append(time.perf_counter() - began)
print(statistics.median(spans) * 1000)
"""
    with os.popen(f"{sys.executable} -S -c \"$(cat <<'END'\n{program}\nEND\n)\"") as pipe:
        return float(pipe.read())


class Bench:
    """One run."""

    def __init__(self, options: argparse.Namespace, home: Path) -> None:
        self._options = options
        self._home = home
        self._canned_pid, self._canned_port = start_canned()
        self._runtime = Forked(home).wait()

    def close(self) -> None:
        """End the servers."""
        self._runtime.stop()
        end(self._canned_pid)

    def wanted(self, name: str) -> bool:
        """Whether ``--only`` asks for the row."""
        return not self._options.only or any(word in name for word in self._options.only)

    def _times(self, times: int) -> int:
        return max(3, times // 10) if self._options.quick else times

    def raw(self) -> None:
        """All raw rows."""
        for row in rows.envd_rows(self._home):
            if self.wanted(row.name):
                self._raw_row(row, Target("127.0.0.1", self._runtime.port))
        row = rows.Row('run_code("1"), raw', rows.same(rows.cell), 100, 8)
        if self.wanted(row.name):
            self._raw_row(row, Target("127.0.0.1", self._runtime.interpreter_port))

    def _processor(self) -> float:
        """Seconds of processor the server has used."""
        return cpu_seconds(self._runtime.server)

    def _raw_row(self, row: rows.Row, target: Target) -> None:
        values, floors, cpu = [], [], []
        times = row.times if row.times <= 5 else self._times(row.times)
        for _ in range(self._options.rounds):
            before = self._processor()
            spans = asyncio.run(row.run(target, times))
            cpu.append((self._processor() - before) / (times + (len(spans) > 1)) * 1000)
            values.append(self._value(row, statistics.median(spans)))
            floor = asyncio.run((row.floor or row.run)(Target("127.0.0.1", self._canned_port), min(times, 200)))
            floors.append(self._value(row, statistics.median(floor)))
        bare = bare_spawn(row.bare) if row.bare else 0
        print_row(
            row.name, values, row.unit, row.goal, floor=statistics.median(floors), bare=bare, cpu=statistics.median(cpu)
        )

    @staticmethod
    def _value(row: rows.Row, seconds: float) -> float:
        return row.size / 1e6 / seconds if row.size else 1 / seconds if row.unit == "/s" else seconds * 1000

    def through_the_sdk(self) -> None:
        """Rows through the Python SDK."""
        for name, call, port, times, goal in (
            ('commands.run("true"), SDK', sdk.commands, self._runtime.port, 100, 6.5),
            ("files.read of 100 MiB, SDK", sdk.read, self._runtime.port, 3, 300.0),
            ('run_code("1"), SDK', sdk.run_code, self._runtime.interpreter_port, 100, 8.0),
        ):
            if not self.wanted(name):
                continue
            values, floors = [], []
            for _ in range(self._options.rounds):
                for found, where in ((values, port), (floors, self._canned_port)):
                    median = statistics.median(call(where, times if times < 10 else self._times(times)))
                    found.append(rows.SIZE / 1e6 / median if goal == 300 else median * 1000)
            print_row(name, values, "MB/s" if goal == 300 else "ms", goal, floor=statistics.median(floors))
        if self.wanted('first run_code("1"), SDK'):
            self._first_cells()

    def _first_cells(self) -> None:
        spans = []
        for _ in range(3 * self._options.rounds):
            fresh = Forked(self._home).wait()
            spans.append(sdk.first_cell(fresh.interpreter_port) * 1000)
            fresh.stop()
        floor = statistics.median(sdk.first_cell(self._canned_port) for _ in range(10)) * 1000
        print_row('first run_code("1"), SDK', spans, "ms", 30, floor=floor)

    def memory_and_start(self) -> None:
        """Proportional memory and time to answer."""
        if self.wanted("PSS"):
            forked = [Forked(self._home, interpreter=False).wait_envd() for _ in range(SANDBOXES)]
            time.sleep(0.5)
            sizes = [pss_mib([each.pid, each.server]) for each in forked]
            for each in forked:
                each.stop()
            print_row(f"PSS of a sandbox, {SANDBOXES} forked", sizes, "MiB", 12)
        if self.wanted("PSS") or self.wanted("exec"):
            seconds, sizes, cpu = [], [], []
            for _ in range(self._options.rounds):
                alone = Alone()
                seconds.append(alone.seconds * 1000)
                cpu.append(alone.cpu * 1000)
                time.sleep(0.5)
                sizes.append(pss_mib(alone.pids))
                alone.stop()
            print_row("PSS alone, supervisor and server", sizes, "MiB", 40)
            interpreter = bare_spawn((sys.executable, "-c", "import asyncio"), 5)
            print_row("exec to first /health", seconds, "ms", 300, bare=interpreter, cpu=statistics.median(cpu))


class Boxed(Bench):
    """The same rows inside a sandbox of a running box, through its gateway, without those that look inside."""

    def __init__(self, options: argparse.Namespace) -> None:
        from e2b_code_interpreter import Sandbox

        self._options = options
        self._canned_pid, self._canned_port = start_canned()
        self._create = lambda: Sandbox.create(template="code-interpreter", timeout=600)
        self._sandbox = self._create()

    def run(self) -> None:
        """Everything."""
        try:
            self._sandbox.commands.run("mkdir -p many && cd many && seq -f 'entry-%04g.txt' 1000 | xargs touch")
            self._sandbox.files.write("small", bytes(1024))
            self._sandbox.commands.run("head -c 104857600 /dev/zero > big")
            print_head()
            for row in rows.envd_rows(None):
                if self.wanted(row.name):
                    self._raw_row(row, self._target(49983))
            if self.wanted("run_code"):
                self._raw_row(rows.Row('run_code("1"), raw', rows.same(rows.cell), 100, 8), self._target(49999))
            self._sdk_rows()
        finally:
            self._sandbox.kill()
            end(self._canned_pid)

    def _processor(self) -> float:
        return 0.0

    def _target(self, port: int) -> Target:
        url = urlsplit(os.environ["E2B_SANDBOX_URL"])
        headers = {"E2b-Sandbox-Id": self._sandbox.sandbox_id, "E2b-Sandbox-Port": str(port)}
        if self._sandbox._envd_access_token:
            headers["X-Access-Token"] = self._sandbox._envd_access_token
        return Target(url.hostname or "127.0.0.1", url.port or 80, headers)

    def _sdk_rows(self) -> None:
        times = self._times(100)
        for name, call, goal in (
            ('commands.run("true"), SDK', lambda: self._sandbox.commands.run("true"), 6.5),
            ('run_code("1"), SDK', lambda: self._sandbox.run_code("1"), 8.0),
        ):
            if self.wanted(name):
                spans = [statistics.median(sdk.timed(call, times)) * 1000 for _ in range(self._options.rounds)]
                print_row(name, spans, "ms", goal)
        if self.wanted("first"):
            firsts = []
            for _ in range(2 * self._options.rounds):
                sandbox = self._create()
                firsts.append(sdk.timed(lambda: sandbox.run_code("1"), 1, 0)[0] * 1000)  # noqa: B023
                sandbox.kill()
            print_row('first run_code("1"), SDK', firsts, "ms", 30)


def make_home(directory: Path) -> Path:
    """A home with 1,000 files, and a passwd that says whose it is."""
    directory.chmod(0o755)
    home, etc = directory / "home", directory / "etc"
    for each in (home, etc, home / "many"):
        each.mkdir()
        os.chown(each, UID, UID if os.geteuid() == 0 else -1)
    (etc / "passwd").write_text(
        f"root:x:0:0::/root:/bin/bash\nuser:x:{UID}:{UID if os.geteuid() == 0 else os.getegid()}::{home}:/bin/bash\n"
    )
    (etc / "group").write_text(f"root:x:0:\nuser:x:{UID}:\n")
    for name, size in (("small", 1024), ("big", rows.SIZE)):
        (home / name).write_bytes(bytes(size))
    for number in range(1000):
        (home / "many" / f"entry-{number:04d}.txt").write_text("x")
    return home


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of every row (default %(default)s)")
    parser.add_argument("--only", action="append", help="only rows whose name contains this text; repeatable")
    parser.add_argument("--box", action="store_true", help="measure inside a sandbox of the box that E2B_* name")
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    options = parser.parse_args()
    if options.box:
        Boxed(options).run()
        return
    supervisor.preload()
    directory = Path(tempfile.mkdtemp(prefix="runtime-speed-"))
    try:
        bench = Bench(options, make_home(directory))
        try:
            print_head()
            bench.memory_and_start()  # first: this process is the template, and must not have grown yet
            bench.raw()
            bench.through_the_sdk()
        finally:
            bench.close()
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
