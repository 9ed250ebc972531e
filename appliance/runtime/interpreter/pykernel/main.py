"""Entry of the kernel process, on both sides of the fork.

``preload()`` builds the kernel and runs one silent cell, so that the code paths of a first cell (compiler, traceback
formatter, display formatter) are warm and shared by every fork. ``run()`` attaches the sockets and serves until the
process is killed.
"""

from __future__ import annotations

import sys
from types import ModuleType

from appliance.runtime.supervise.messages import Connection

_app: object | None = None


def preload() -> None:
    """Build the kernel in this single-threaded process. Idempotent. Raises ``ImportError``."""
    global _app  # noqa: PLW0603
    if _app is not None:
        return
    main_module = sys.modules["__main__"]
    with _without("debugpy"):
        import ipykernel.debugger  # noqa: F401  decides now that there is no debugger
    from appliance.runtime.interpreter.pykernel import formatters
    from appliance.runtime.interpreter.pykernel.kernel import build

    app = build()
    formatters.install(app.shell)
    _warm_up(app.shell)
    # The shell made its namespace the main module; that is the kernel's affair, not the template's.
    sys.modules["__main__"] = main_module
    _app = app


def run(connection: Connection) -> None:
    """Serve until the kernel is asked to exit. Called in a fork, with account and directory set."""
    preload()
    from tornado.ioloop import IOLoop

    from appliance.runtime.interpreter.pykernel import hooks, paths
    from appliance.runtime.interpreter.pykernel.kernel import KernelApp

    app = _app
    assert isinstance(app, KernelApp)
    sys.modules["__main__"] = app.shell.user_module
    paths.arrange()
    hooks.install()
    app.attach(connection)
    app.kernel.start()
    app.io_loop = IOLoop.current()
    app.io_loop.start()


def _warm_up(shell: object) -> None:
    """Run what every first cell runs, silently and without leaving a trace in the namespace."""
    from IPython.core.interactiveshell import InteractiveShell

    assert isinstance(shell, InteractiveShell)
    shell.run_cell("None", store_history=False, silent=True)
    shell.display_formatter.format(0)
    try:
        raise ValueError
    except ValueError as error:
        tb = shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
        shell.InteractiveTB.stb2text(tb)


class _without:  # noqa: N801  reads as a statement
    """While active, importing the named module fails; afterwards everything is as before."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._saved: ModuleType | None = None

    def __enter__(self) -> None:
        self._saved = sys.modules.get(self._name)
        sys.modules[self._name] = None  # type: ignore[assignment]

    def __exit__(self, *exc: object) -> None:
        if self._saved is None:
            del sys.modules[self._name]
        else:
            sys.modules[self._name] = self._saved
