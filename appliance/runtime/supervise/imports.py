"""Which modules the server process will need: imported once before the fork, so that no sandbox pays for them.

Imports only; nothing is started. ``uvicorn`` picks its protocol classes lazily by name, hence the explicit ones.
"""

from __future__ import annotations

import importlib
from typing import Final

_SERVER: Final = (
    "asyncio",
    "encodings.idna",
    "uvicorn",
    "uvicorn.lifespan.off",
    "uvicorn.lifespan.on",
    "uvicorn.loops.asyncio",
    "uvicorn.protocols.http.httptools_impl",
    "appliance.runtime.server",
)
_INTERPRETER: Final = ("zmq.asyncio", "appliance.runtime.interpreter.app")


def server(*, interpreter: bool = True) -> None:
    """Import the server's modules, with or without the code interpreter's. Raises ``ImportError``."""
    for name in _SERVER + (_INTERPRETER if interpreter else ()):
        importlib.import_module(name)
