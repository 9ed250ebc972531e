"""The template process: imports the runtime once, then forks every container's first process from itself.

It has no threads and one loop over a few descriptors: the listening socket ``run/template.sock``, connected agents
and a wake-up pipe. Work happens in the forks (``starting``, ``executing``); the template only forks, reaps and
writes exit files. It outlives the agent in a session of its own, is found again by its socket, and when it dies
itself, containers go on.

Started by ``staging``, inside a mount namespace where /opt/appliance is what every sandbox will see, so that
``sys.path`` and ``sys.executable`` are already right.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from appliance.embedded.node import process_ids, syscalls
from appliance.embedded.node.initproc import exit_code
from appliance.embedded.node.request import MAX_MESSAGE, PROTOCOL, Exec, Exited, Hello, Request, Spawn, Spawned, Stop
from appliance.embedded.node.userns import NamespaceMaker

_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


class Template:
    """State of the loop: connected agents and living containers."""

    def __init__(self, listener: socket.socket, maker: NamespaceMaker | None, build: str) -> None:
        self._listener = listener
        self._maker = maker
        self._build = build
        self._agents: dict[int, socket.socket] = {}
        self._containers: dict[int, tuple[Spawn, int]] = {}
        self._wake, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def loop(self) -> None:
        """Serve until ``Stop`` or SIGTERM."""
        while True:
            sources = [self._listener.fileno(), self._wake, *self._agents]
            ready, _, _ = select.select(sources, [], [])
            if self._wake in ready and signal.SIGTERM in os.read(self._wake, 4096):
                return
            self._reap()
            if self._listener.fileno() in ready:
                self._welcome()
            for agent in [self._agents[fd] for fd in ready if fd in self._agents]:
                if not self._serve(agent):
                    return

    def _welcome(self) -> None:
        agent, _ = self._listener.accept()
        agent.settimeout(5.0)
        self._agents[agent.fileno()] = agent
        try:
            agent.send(msgspec.json.encode(Hello(os.getpid(), PROTOCOL, self._build)))
        except OSError:
            self._agents.pop(agent.fileno(), None)
            agent.close()

    def _serve(self, agent: socket.socket) -> bool:
        """One message of an agent; False to stop."""
        try:
            data, fds, _, _ = socket.recv_fds(agent, MAX_MESSAGE, 4)
        except OSError:
            data, fds = b"", []
        if not data:
            self._agents.pop(agent.fileno(), None)
            agent.close()
            return True
        try:
            return self._handle(_decoder.decode(data), fds)
        except (msgspec.MsgspecError, OSError, IndexError) as error:
            sys.stderr.write(f"template: refused a request: {error}\n")
            return True
        finally:
            for fd in fds:
                os.close(fd)

    def _handle(self, request: Request, fds: list[int]) -> bool:
        if isinstance(request, Stop):
            return False
        if isinstance(request, Spawn):
            self._spawn(request, fds)
        elif os.fork() == 0:
            self._leave_loop()
            self._execute(request, fds)
        return True

    def _spawn(self, spawn: Spawn, fds: list[int]) -> None:
        try:
            pid = os.fork() if spawn.root is None else self._fork_first_process()
        except OSError as error:
            os.write(fds[2], msgspec.json.encode(Spawned(error=f"fork: {error}")))
            return
        if pid == 0:
            self._leave_loop()
            from appliance.embedded.node.starting import start

            start(spawn, fds, self._maker)
        self._containers[pid] = (spawn, process_ids.start_time(pid))

    def _fork_first_process(self) -> int:
        """Fork pid 1 of a new pid namespace; the template's other forks stay in the box's."""
        syscalls.unshare(syscalls.CLONE_NEWPID)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                syscalls.setns(self._own_pids, syscalls.CLONE_NEWPID)
        return pid

    def _leave_loop(self) -> None:
        """In a fork: drop the template's sockets, so that their ends are seen when the template ends."""
        self._listener.close()
        for agent in self._agents.values():
            agent.close()

    @staticmethod
    def _execute(request: Exec, fds: list[int]) -> None:
        from appliance.embedded.node.executing import execute

        execute(request, fds)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            known = self._containers.pop(pid, None)
            if known is not None:
                self._record(known[0], pid, known[1], exit_code(status))

    def _record(self, spawn: Spawn, pid: int, start: int, code: int) -> None:
        event = Exited(spawn.pod, spawn.container, pid, start, code, time.time())
        path = Path(spawn.exit_file)
        fresh = path.with_name(f".{path.name}.new")
        try:
            fresh.write_bytes(msgspec.json.encode(event))
            fresh.rename(path)
        except FileNotFoundError:  # the pod's directory is gone: nobody wants to know
            return
        except OSError as error:  # a full disk must not take the other sandboxes' parent along; the status is lost
            sys.stderr.write(f"{path}: exit status {code} not recorded: {error}\n")


def main(arguments: list[str]) -> None:
    """``SOCKET MODE BUILD``: bind, preload, serve. The socket appears only when containers can be started."""
    path, mode, build = Path(arguments[0]), arguments[1], arguments[2]
    syscalls.set_name("appliance-tmpl")
    maker = NamespaceMaker() if mode == "namespaces" else None
    from appliance.embedded.node import executing, starting  # noqa: F401  - shared with every fork
    from appliance.runtime.supervisor import preload

    preload()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    listener.bind(str(fresh))
    os.chmod(fresh, 0o600)
    listener.listen(8)
    os.rename(fresh, path)
    try:
        Template(listener, maker, build).loop()
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
