"""A real box under test: ``appliance --role=all`` started as a user starts it, on free ports and its own directory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A TCP port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class RunningBox:
    """A started ``--role=all`` and what its user needs."""

    data_dir: Path
    process: subprocess.Popen[str]
    log: Path
    arguments: list[str]
    env: dict[str, str] = field(default_factory=dict)
    """What ``appliance env`` exports, without the domain."""
    domain: str = ""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.data_dir / "kubeconfig"

    def output(self) -> str:
        """What the supervisor printed so far."""
        return self.log.read_text(errors="replace")

    def wait_ready(self, timeout: float = 90.0) -> None:
        """Wait until the supervisor has printed its welcome."""
        deadline = time.monotonic() + timeout
        while "\nready." not in self.output():
            assert self.process.poll() is None, f"the box ended:\n{self.output()}\n{self.role_logs()}"
            assert time.monotonic() < deadline, f"not ready in {timeout} s:\n{self.output()}\n{self.role_logs()}"
            time.sleep(0.05)
        self.env = self._exports()

    def _exports(self) -> dict[str, str]:
        printed = run_appliance("env", "--data-dir", str(self.data_dir)).stdout
        pairs = [line.removeprefix("export ").split("=", 1) for line in printed.splitlines()]
        exported = dict(pairs)
        self.domain = exported.pop("E2B_DOMAIN")
        return exported

    def role_logs(self) -> str:
        """The last lines of every role's log."""
        logs = sorted((self.data_dir / "log").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    def stop(self) -> int:
        """SIGTERM, as Ctrl-C does, and the exit code."""
        self.process.terminate()
        return self.process.wait(timeout=60)

    def filter_pid(self, *, other_than: int = 0) -> int:
        """The pid of the box's filter process; 0 when there is none (or only ``other_than``)."""
        socket = str(self.data_dir / "run" / "egress.sock")
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"appliance.embedded.filter.main" in words and socket.encode() in words:
                pid = int(path.parent.name)
                if pid != other_than:
                    return pid
        return 0

    def role_pid(self, role: str, *, other_than: int = 0, timeout: float = 20.0) -> int:
        """The pid of a role's process among the supervisor's children, once there is one ``other_than`` the given."""
        deadline = time.monotonic() + timeout
        command = ["pgrep", "-P", str(self.process.pid), "-f", f"role={role}"]
        while True:
            found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
            if found and int(found[0]) != other_than:
                return int(found[0])
            assert time.monotonic() < deadline, f"no {role} process:\n{self.output()}"
            time.sleep(0.05)


def environment() -> dict[str, str]:
    """The environment of a user's shell: ours without E2B or cluster settings."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("E2B_", "KUBE", "APPLIANCE_DATA"))
    }
    return {**kept, "PYTHONPATH": str(ROOT)}


def run_appliance(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the appliance's command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "appliance", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def launch(
    data_dir: Path, *, pool: int, extra: tuple[str, ...] = (), env: Mapping[str, str] | None = None
) -> RunningBox:
    """Start a box without waiting for it. ``env``: variables besides a user's."""
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "supervisor.out"
    arguments = [sys.executable, "-m", "appliance", "--role=all", "--data-dir", str(data_dir), "--pool", str(pool)]
    arguments += ["--listen", f"127.0.0.1:{free_port()}", "--apiserver-listen", f"127.0.0.1:{free_port()}", *extra]
    with log.open("w") as out:
        process = subprocess.Popen(
            arguments, env={**environment(), **(env or {})}, stdout=out, stderr=out, text=True, start_new_session=True
        )
    return RunningBox(data_dir, process, log, arguments)
