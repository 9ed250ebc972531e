"""Pid 1 of a sandbox, and the template it is forked from.

``preload()`` is called once, in a process without threads, event loop or ZeroMQ context: it imports everything the
server and a Python kernel need, builds the kernel's shell, and freezes the heap. ``run()`` is called in each fork of
that process and never returns. Both sides of the fork stay clean because nothing before it owns a thread or a socket.
"""

from __future__ import annotations

import gc
from typing import NoReturn

from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.supervise.maincommand import MainCommand

__all__ = ["MainCommand", "preload", "run"]

_preloaded = False


def preload() -> None:
    """Import and build what every sandbox shares, then move it out of the garbage collector's sight. Idempotent.

    Afterwards the process may fork any number of times. Raises ``ImportError`` when a dependency is missing.
    """
    global _preloaded  # noqa: PLW0603
    if _preloaded:
        return
    gc.disable()  # what is allocated now stays; collecting would only touch pages
    try:
        from appliance.runtime.interpreter.pykernel import main as pykernel
        from appliance.runtime.supervise import imports, loop  # noqa: F401

        imports.server()
        pykernel.preload()
    finally:
        gc.enable()
    gc.collect()
    gc.freeze()
    _preloaded = True


def run(settings: RuntimeSettings, main: MainCommand | None = None) -> NoReturn:
    """Be the sandbox's first process: serve, fork kernels, run ``main``; exits with its code, else on SIGTERM with 0.

    The caller has no threads and no running event loop. Signal dispositions and the wake-up descriptor are replaced.
    Without a ``preload()`` before, only what the server needs is imported first, and the kernel's half while the
    server answers already.
    """
    from appliance.runtime.supervise import imports
    from appliance.runtime.supervise.loop import Supervisor

    if not _preloaded:
        imports.server(interpreter=settings.interpreter)
        gc.freeze()
    Supervisor(settings, main).run(preload if settings.interpreter else None)
