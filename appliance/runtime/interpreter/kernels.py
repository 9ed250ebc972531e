"""Kernel processes on the server's side: asked for over the supervisor's channel, spoken to through a ``KernelClient``.

Python kernels are forked by the supervisor; those of other languages are executed from the kernel specification that
``jupyter_client`` finds. Both look the same from here. The supervisor remembers each kernel's connection and a memo,
so the kernels of a dead server process are taken over by the next one with their variables.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import uuid
from typing import Any, Final

import msgspec
import zmq.asyncio

from appliance.runtime.filesystem.directories import make_directories
from appliance.runtime.interpreter import languages
from appliance.runtime.interpreter.client import KernelClient
from appliance.runtime.interpreter.place import (
    base_directory,
    connection_file,
    environment,
    kernel_user,
    tcp_connection,
)
from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.supervise.channel import Channel
from appliance.runtime.supervise.messages import (
    Connection,
    Exited,
    Failed,
    Forget,
    KernelRecord,
    Remember,
    Report,
    SignalKernel,
    Started,
    StartKernel,
)

READY_TIMEOUT: Final = 60.0
"""Seconds for a new kernel to answer; a Java kernel on a busy machine needs tens."""
_ANSWER_TIMEOUT: Final = 10.0
"""Seconds for the supervisor to fork."""


class KernelError(Exception):
    """A kernel could not be started; the text is for the client."""


class Kernel:
    """One kernel process. Made by ``Kernels`` only."""

    def __init__(self, kernels: Kernels, start: StartKernel, client: KernelClient) -> None:
        self.id = start.id
        self.client = client
        self.deaf_to_signals = start.interrupt_by_message
        """Interrupted by a message only; SIGINT would end it."""
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Exit code, or minus the signal, once the process is gone. Await it shielded."""
        self._kernels = kernels

    def interrupt(self) -> None:
        """Interrupt the running cell and what it started, like Ctrl-C; nothing when the kernel is idle."""
        if self.deaf_to_signals:
            self.client.interrupt()
        else:
            self._kernels.signal(self.id, signal.SIGINT)

    def kill(self) -> None:
        """End the process; ``exited`` tells when it is done."""
        self._kernels.signal(self.id, signal.SIGKILL)

    def remember(self, memo: bytes) -> None:
        """Replace what the next server process is told about this kernel."""
        self._kernels.channel.send(Remember(id=self.id, memo=memo))


class Kernels:
    """All kernel processes of a sandbox. Use within one event loop."""

    def __init__(self, settings: RuntimeSettings, channel: Channel) -> None:
        self.channel = channel
        self._settings = settings
        self._zmq = zmq.asyncio.Context(io_threads=1)
        self._kernels: dict[str, Kernel] = {}
        self._starting: dict[str, asyncio.Future[int]] = {}
        self._user = kernel_user(settings)
        channel.attach(self._on_report)

    @property
    def home(self) -> str:
        """Home directory of the kernels' account, or the root directory when it does not exist."""
        home = self._user.home if self._user else os.path.expanduser("~")
        return home if os.path.isdir(home) else "/"

    async def start(self, language: str, cwd: str, memo: bytes) -> Kernel:
        """Start a kernel and wait until it answers. Raises ``KernelError``; cancelled, it leaves no process."""
        await asyncio.to_thread(self._make_home_directory, cwd)
        request = await self._request(language, cwd, memo)
        try:
            await self._ask(request)
            kernel = self._kernels[request.id] = Kernel(self, request, KernelClient(self._zmq, request.connection))
            await self._wait_ready(kernel)
        except BaseException:
            self.signal(request.id, signal.SIGKILL)
            raise
        return kernel

    async def installed(self, language: str) -> bool:
        """Whether a kernel of a language other than Python is there."""
        from appliance.runtime.interpreter import specs

        try:
            await asyncio.to_thread(specs.find, language, "", self._user)
        except KernelError:
            return False
        return True

    def _make_home_directory(self, cwd: str) -> None:
        """A working directory below the account's home is made when it is missing, as clients of the reference may ask
        for one; any other has to be there. Raises ``KernelError``.
        """
        if os.path.isdir(cwd):
            return
        if self._user is None or not os.path.normpath(cwd).startswith(f"{self.home}/"):
            raise KernelError(f"cwd: {cwd} is not a directory")
        try:
            make_directories(cwd, self._user)
        except OSError as error:
            raise KernelError(f"cwd: {cwd} cannot be made: {error.strerror}") from None

    def inherited(self) -> list[tuple[KernelRecord, Kernel | None]]:
        """Kernels of earlier server processes, oldest first; None in place of one that ended meanwhile."""
        found: list[tuple[KernelRecord, Kernel | None]] = []
        for record in self.channel.records:
            kernel_id = record.start.id
            if record.status is None:
                kernel = Kernel(self, record.start, KernelClient(self._zmq, record.start.connection))
                self._kernels[kernel_id] = kernel
                found.append((record, kernel))
            else:
                self.channel.send(Forget(id=kernel_id))
                found.append((record, None))
        self.channel.records.clear()
        return found

    def signal(self, kernel_id: str, signum: int) -> None:
        """Signal a kernel's process group."""
        self.channel.send(SignalKernel(id=kernel_id, signum=int(signum)))

    async def close(self) -> None:
        """Let go of every kernel; the processes live on, for the next server process or the supervisor's end."""
        self.channel.detach()
        for kernel in self._kernels.values():
            await kernel.client.close()
        self._kernels.clear()
        self._zmq.destroy(0)

    async def _wait_ready(self, kernel: Kernel) -> None:
        ready: asyncio.Future[None] = asyncio.ensure_future(kernel.client.ready())
        try:
            either: set[asyncio.Future[Any]] = {ready, kernel.exited}
            done, _ = await asyncio.wait(either, timeout=READY_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if kernel.exited in done:
            raise KernelError(f"the kernel ended while it started: {describe_exit(kernel.exited.result())}")
        if not done:
            raise KernelError(f"the kernel did not answer within {READY_TIMEOUT:.0f} s")

    async def _ask(self, request: StartKernel) -> None:
        answer = self._starting[request.id] = asyncio.get_running_loop().create_future()
        try:
            self.channel.send(request)
            await asyncio.wait_for(answer, _ANSWER_TIMEOUT)
        except TimeoutError:
            raise KernelError("the supervisor did not start the kernel in time") from None
        except OSError as error:
            raise KernelError(f"the supervisor cannot be reached: {error}") from None
        finally:
            self._starting.pop(request.id, None)

    def _on_report(self, report: Report) -> None:
        match report:
            case Started():
                _settle(self._starting.get(report.id), report.pid)
            case Failed():
                _settle(self._starting.get(report.id), KernelError(report.reason))
            case Exited():
                self.channel.send(Forget(id=report.id))
                kernel = self._kernels.pop(report.id, None)
                if kernel is not None:
                    _settle(kernel.exited, report.status)

    async def _request(self, language: str, cwd: str, memo: bytes) -> StartKernel:
        kernel_id = uuid.uuid4().hex[:16]
        key = secrets.token_hex(32)
        directory = str(base_directory() / kernel_id)
        forked = StartKernel(
            id=kernel_id,
            connection=Connection(transport="ipc", ip=f"{directory}/k", key=key),
            directory=directory,
            cwd=cwd,
            env=environment(self._settings, self._user),
            user=self._user.name if self._user and self._user.uid != os.geteuid() else None,
            memo=memo,
        )
        if language == languages.PYTHON:
            return forked
        from appliance.runtime.interpreter import specs

        connection = tcp_connection(key)
        program = await asyncio.to_thread(specs.find, language, f"{directory}/connection.json", self._user)
        return msgspec.structs.replace(
            forked,
            connection=connection,
            env={**forked.env, **program.env},
            argv=program.argv,
            interrupt_by_message=program.interrupt_by_message,
            connection_file=connection_file(connection),
        )


def describe_exit(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    hint = " (often: out of memory)" if status == -signal.SIGKILL else ""
    return f"killed by {name}{hint}"


def _settle(future: asyncio.Future[int] | None, value: int | Exception) -> None:
    if future is None or future.done():
        return
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)
