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
    "zmq.asyncio",
    "appliance.runtime.server",
    "appliance.runtime.interpreter.app",
)


def server() -> None:
    """Import the server's modules. Raises ``ImportError``."""
    for name in _SERVER:
        importlib.import_module(name)
