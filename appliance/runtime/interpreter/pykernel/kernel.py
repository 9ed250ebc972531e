"""The sandbox's Python kernel: IPython's, minus what a sandbox cannot use, configured as the contract demands.

Built in the template process by ``prepare()``, without a socket, thread or event loop, and completed in the fork by
``attach()``. Differences from a stock ipykernel, all of them measured costs at start or per cell: no subshell thread,
no control thread (interrupts are signals), no heartbeat (the supervisor waits for the process itself), no debugger,
no history database, one reader thread instead of two for output of C code and child processes.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Iterator
from typing import Any, Final

import zmq
from ipykernel.iostream import IOPubThread
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.profiledir import ProfileDir
from jupyter_client.session import Session
from traitlets import observe
from traitlets.config import Config
from zmq.eventloop.zmqstream import ZMQStream

from appliance.runtime.interpreter.pykernel import commands
from appliance.runtime.interpreter.pykernel.capture import DescriptorCapture
from appliance.runtime.interpreter.pykernel.streams import LineStream
from appliance.runtime.supervise.messages import Connection

CONFIG: Final = {
    "IPKernelApp": {"quiet": True, "capture_fd_output": False},
    "InteractiveShell": {"colors": "nocolor", "xmode": "Context"},
    "PlainTextFormatter": {"max_seq_length": 0},
    "HistoryManager": {"enabled": False},
    "Completer": {"use_jedi": False},
    "Kernel": {"_execute_sleep": 0.0},
}
"""Traitlets configuration. No colour, no elided lists: contract §3.5. One output thread makes the sleep unnecessary."""
_LINGER_MS: Final = 1000


class LazyProfile(ProfileDir):  # type: ignore[misc]
    """A profile directory that is a name until somebody writes to it: nothing is created at start-up."""

    @observe("location")
    def _location_changed(self, change: object) -> None:
        """Overrides the creation of the whole tree."""


class Shell(ZMQInteractiveShell):  # type: ignore[misc]
    """The interactive shell."""

    def init_environment(self) -> None:
        """The stock kernel asks every program for colour; a sandbox's output is read by programs."""

    @observe("ipython_dir")
    def _ipython_dir_changed(self, change: object) -> None:
        """Overrides the creation of the directory."""

    def system_piped(self, cmd: str) -> None:
        """``!cmd``; the status goes to ``_exit_code``, or into a CalledProcessError under ``%config`` as in IPython."""
        self.user_ns["_exit_code"] = code = commands.run(self.var_expand(cmd, depth=1))
        if self.system_raise_on_error and code:
            raise subprocess.CalledProcessError(code, cmd)

    system = system_piped

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """IPython keeps a copy of everything printed, for ever, for a notebook file that nobody writes here."""
        yield

    def init_virtualenv(self) -> None:
        """``sys.path`` is arranged in ``paths.py``."""


class _NoSubshells:
    """Stands where ipykernel has a thread for subshells: false, and knows the thread that cells run in."""

    def __bool__(self) -> bool:
        return False

    @property
    def parent_thread(self) -> threading.Thread:
        """The thread in which interrupts can cancel a cell."""
        return threading.main_thread()


class Kernel(IPythonKernel):  # type: ignore[misc]
    """The message handlers."""

    shell_class = Shell
    shell_channel_thread = _NoSubshells()
    _supports_kernel_subshells = False
    capture: DescriptorCapture | None = None

    async def do_execute(self, code: str, silent: bool, *args: Any, **kwargs: Any) -> Any:
        """Run a cell; what child processes wrote to the descriptors meanwhile belongs to it, so it is collected before
        the reply. There always is a reply: where a cell has broken the shell itself, the next one gets the error.
        """
        try:
            reply = await super().do_execute(code, silent, *args, **kwargs)
        except Exception as error:
            lines = traceback.format_exception(error)
            reply = {"status": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": lines}
        if self.capture is not None:
            self.capture.drain()
        self._mend_streams()  # now, because the next request names itself to the streams before its cell runs
        self.shell.history_manager.outputs.clear()
        return reply

    def _mend_streams(self) -> None:
        """Put the kernel's streams back where a cell left something that cannot be written to: the shell needs them."""
        for name, stream in (("stdout", self._stdout), ("stderr", self._stderr)):
            if stream is not None and not callable(getattr(getattr(sys, name, None), "write", None)):
                setattr(sys, name, stream)


class KernelApp(IPKernelApp):  # type: ignore[misc]
    """Puts the pieces together in two halves, one on either side of the fork."""

    kernel_class = Kernel
    capture: DescriptorCapture | None = None

    def prepare(self) -> None:
        """Everything that owns no operating-system resource. Called once, in the template."""
        self.session = Session(parent=self, key=b"replaced in the fork")
        self.profile_dir = LazyProfile(location="/nonexistent")
        self.kernel = Kernel.instance(
            parent=self, session=self.session, log=self.log, profile_dir=self.profile_dir, user_ns=self.user_ns
        )
        self.shell = self.kernel.shell
        self.shell.configurables.append(self)
        # The template and the server leave through exit(), and are not the shell.
        atexit.unregister(self.shell.atexit_operations)

    def attach(self, connection: Connection) -> None:
        """Sockets, threads and standard streams. Called once, in the fork, under the kernel's own account."""
        self.transport, self.ip = connection.transport, connection.ip
        self._renew_identity(connection.key)
        atexit.register(self.shell.atexit_operations)
        context = self.context = zmq.Context(io_threads=1)
        self.shell_socket = self._listen(context, zmq.ROUTER, connection.shell_port)
        self.stdin_socket = self._listen(context, zmq.ROUTER, connection.stdin_port)
        iopub = self._listen(context, zmq.XPUB, connection.iopub_port)
        self.iopub_thread = IOPubThread(iopub, pipe=False, session=self.session)
        self.iopub_socket = self.iopub_thread.background_socket
        self.iopub_thread.start()
        self._redirect_streams()
        self._connect_kernel()
        self.init_crash_handler()
        self.init_signal()
        self.init_path()
        self.init_gui_pylab()

    def _renew_identity(self, key: str) -> None:
        self.session.pid = os.getpid()
        self.session.session = uuid.uuid4().hex
        self.session.key = key.encode()
        self.kernel.ident = str(uuid.uuid4())
        home = os.path.expanduser("~")
        self.shell.ipython_dir = os.path.join(home, ".ipython")
        self.profile_dir.location = os.path.join(home, ".ipython", "profile_default")
        self.shell.home_dir = home
        self.shell.starting_dir = os.getcwd()

    def _listen(self, context: zmq.Context[Any], kind: int, port: int) -> Any:
        socket = context.socket(kind)
        socket.linger = _LINGER_MS
        if kind == zmq.XPUB:
            # A full queue blocks the output thread instead of losing lines: the server reads as fast as its client.
            socket.setsockopt(zmq.XPUB_NODROP, 1)
        if kind == zmq.ROUTER:
            # A server that was restarted comes back under the identity of the dead one.
            socket.router_handover = 1
        self._bind_socket(socket, port)
        return socket

    def _redirect_streams(self) -> None:
        self.capture = self.kernel.capture = DescriptorCapture()
        for name in ("stdout", "stderr"):
            stream = LineStream(self.session, self.iopub_thread, name, watchfd=False)
            # What asks for the descriptor (subprocess, faulthandler) gets the captured one.
            stream._original_stdstream_copy = {"stdout": 1, "stderr": 2}[name]
            setattr(sys, name, stream)
        self.capture.start(lambda: (sys.stdout, sys.stderr))
        self.displayhook = self.shell.displayhook
        self.kernel._stdout, self.kernel._stderr = sys.stdout, sys.stderr

    def _connect_kernel(self) -> None:
        kernel, shell = self.kernel, self.shell
        kernel.iopub_thread, kernel.iopub_socket, kernel.stdin_socket = (
            self.iopub_thread,
            self.iopub_socket,
            self.stdin_socket,
        )
        kernel.shell_stream = ZMQStream(self.shell_socket)
        shell.displayhook.pub_socket = self.iopub_socket
        shell.displayhook.topic = kernel._topic("execute_result")
        shell.display_pub.pub_socket = self.iopub_socket


def build() -> KernelApp:
    """The one application of this process, prepared but not attached."""
    app: KernelApp = KernelApp.instance(config=Config(CONFIG), user_ns={})
    app.prepare()
    return app
