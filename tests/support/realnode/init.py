"""Pid 1 of the node: makes its own view of the machine, starts and signals components on request, reaps everybody.

Run as ``init.py DIRECTORY [PLACE…]`` inside fresh mount, net, pid, uts and ipc namespaces, with nothing but the
standard library; its directories named PLACE are kept in memory. Its Unix socket takes one JSON object a line:
``{"start": name, "argv": […]}``, ``{"signal": name, "number": 9}``, ``{"state": name}``; it answers one, with ``pid``
and ``exit`` (null while it runs). It never ends by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ADDRESS = "10.77.0.1"
COPIES = 6
"""How often the node counts each processor, so that the requests of the seed's sandboxes (a CPU each) fit. Requests are
reservations; the limits stay real."""
_SYSCTLS = {"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}


def run(*words: str) -> None:
    """One command that must succeed."""
    subprocess.run(words, check=True)


def view(directory: Path, volatile: list[str]) -> None:
    """Mounts, name and network of the node; the machine outside sees nothing of it.

    ``volatile`` names the node's directories that are kept in memory.
    """
    run("mount", "--make-rprivate", "/")
    run("mount", "--make-rshared", "/")
    for name in volatile:
        (directory / name).mkdir(exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", str(directory / name))
    for name, value in _SYSCTLS.items():
        # the kubelet would write these, and they are the whole machine's: it finds what it wants and does not
        shield = directory / "sysctl" / name.replace("/", ".")
        shield.parent.mkdir(exist_ok=True)
        shield.write_text(value + "\n")
        run("mount", "--bind", str(shield), f"/proc/sys/{name}")
    _processors(directory / "topology")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    Path("/run/lock").mkdir()
    for place in ("/var", "/usr/libexec"):
        # paths that kubelet, shims and CNI plugins write to whatever their flags say
        upper, work = Path(f"/run/over{place}/upper"), Path(f"/run/over{place}/work")
        for path in (upper, work):
            path.mkdir(parents=True)
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={place},upperdir={upper},workdir={work}", place)
    if os.path.ismount("/sys/fs/cgroup/unified"):  # hybrid: nothing here uses it, and crun refuses it
        run("umount", "/sys/fs/cgroup/unified")
    run("hostname", "node1")
    for words in (
        "link set lo up", "link add eth0 type veth peer name eth0p", "link set eth0p up",
        f"addr add {ADDRESS}/24 dev eth0", "link set eth0 up", "route add default dev eth0",
    ):  # fmt: skip
        run("ip", *words.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _processors(directory: Path) -> None:
    """The kubelet adds up the processors of every NUMA node: it finds the machine's only one ``COPIES`` times."""
    real = Path("/sys/devices/system/node/node0")
    for number in range(COPIES):
        node = directory / f"node{number}"
        for cpu in real.glob("cpu[0-9]*"):
            (node / cpu.name / "topology").mkdir(parents=True)
            for name in ("core_id", "physical_package_id"):
                (node / cpu.name / "topology" / name).write_bytes((cpu / "topology" / name).read_bytes())
        (node / "hugepages").mkdir()
        (node / "meminfo").write_bytes((real / "meminfo").read_bytes())
    run("mount", "--bind", str(directory), "/sys/devices/system/node")


class Components:
    """Children by name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pids: dict[str, int] = {}
        self._exits: dict[int, int] = {}

    def reap(self) -> None:
        """Collect every child that ended, ours or an orphan."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._pids.values():
                self._exits[pid] = os.waitstatus_to_exitcode(status)

    def start(self, name: str, argv: list[str]) -> None:
        """Start it in a session of its own, its output appended to its log."""
        log = os.open(self._directory / "logs" / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            actions = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
            self._pids[name] = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions, setsid=True)
        finally:
            os.close(log)

    def answer(self, wish: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request."""
        name = str(wish.get("start") or wish.get("signal") or wish.get("state"))
        if "start" in wish:
            self.start(name, wish["argv"])
        pid = self._pids.get(name)
        if "signal" in wish and pid is not None and pid not in self._exits:
            os.kill(pid, int(wish["number"]))
        return {"pid": pid, "exit": self._exits.get(pid) if pid is not None else None}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        while line := await reader.readline():
            try:
                answer = self.answer(json.loads(line))
            except (OSError, ValueError, KeyError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()


async def main(directory: Path) -> None:
    """Serve for ever."""
    components = Components(directory)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, components.reap)
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(ignored, lambda: None)
    # bound under another name first, so that whoever sees the socket can connect
    fresh = directory / "init.sock.new"
    server = await asyncio.start_unix_server(components.serve, fresh)
    fresh.rename(directory / "init.sock")
    await server.serve_forever()


if __name__ == "__main__":
    view(Path(sys.argv[1]), sys.argv[2:])
    asyncio.run(main(Path(sys.argv[1])))
