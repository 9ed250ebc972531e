"""The runtime's server process: envd, the interpreter, the tunnel and the events service in one event loop.

``serve`` is what the supervisor's forked child runs. It ends on SIGTERM (or SIGINT) in a fixed order: stop accepting,
let requests finish for a moment, close. Processes that clients started are not its to kill: the supervisor ends the
sandbox.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable
from typing import Any

from appliance.runtime import seal
from appliance.runtime.app import EnvdApp
from appliance.runtime.events import EventsApp
from appliance.runtime.listener import Listener
from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.state import RuntimeState, SupervisorChannel
from appliance.runtime.tunnel import Tunnel

log = logging.getLogger(__name__)


def serve(
    settings: RuntimeSettings, channel: SupervisorChannel | None = None, saved_state: bytes | None = None
) -> None:
    """Serve until SIGTERM. ``saved_state`` is the last snapshot handed to ``channel.save_state``, after a crash.

    Raises ``OSError`` when the envd port is taken.
    """
    _prepare()
    state = RuntimeState(settings)
    if saved_state:
        state.restore(saved_state)
    else:
        state.sealed = seal.read(settings.seal_file)
    asyncio.run(_serve_until_signalled(settings, state, channel))


def _prepare() -> None:
    """Absolute paths only, a known umask, and no descriptor of ours among 0..2 that a child would get."""
    os.chdir("/")
    os.umask(0o022)
    while (descriptor := os.open("/dev/null", os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # Fewer, later collections: a request allocates little that is cyclic, and a pause costs more than the memory.
    gc.set_threshold(5000, 20, 50)


async def _serve_until_signalled(
    settings: RuntimeSettings, state: RuntimeState, channel: SupervisorChannel | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runtime = Runtime(settings, state, channel)
    await runtime.start()
    try:
        await stop.wait()
    finally:
        await runtime.stop()


class Runtime:
    """The listeners; usable inside a running loop (tests, an embedding program)."""

    def __init__(
        self, settings: RuntimeSettings, state: RuntimeState, channel: SupervisorChannel | None = None
    ) -> None:
        self._settings = settings
        self._state = state
        self._channel = channel
        self._envd = EnvdApp(settings, state, channel)
        self._listeners: list[Listener] = []
        self._tunnel: Tunnel | None = None
        self._interpreter: Any = None
        self.ports: dict[str, int] = {}
        """``envd``, ``interpreter``, ``tunnel`` and ``events``: the ports actually bound."""

    async def start(self) -> None:
        """Bind everything. Raises ``OSError`` when the envd port is taken; the others are skipped then, with a log
        line.
        """
        settings = self._settings
        self._envd.adopt()
        if settings.events:
            await self._optional("events service", settings.events_port, self._start_events)
        await self._listen("envd", self._envd, settings.envd_port)
        if settings.tunnel:
            self._tunnel = Tunnel(settings, self._state)
            await self._optional("tunnel", settings.tunnel_port, self._start_tunnel)
        if settings.interpreter and self._channel is not None:
            await self._optional("interpreter", settings.interpreter_port, self._start_interpreter)

    async def _listen(self, name: str, app: Any, port: int) -> None:
        listener = Listener(app, self._settings)
        self.ports[name] = await listener.start(self._settings.host, port)
        self._listeners.append(listener)

    async def _optional(self, name: str, port: int, start: Callable[[], Any]) -> None:
        try:
            await start()
        except OSError as error:
            log.warning("the %s does not listen on port %d: %s", name, port, error.strerror or error)
        except Exception:
            log.exception("the %s does not start; commands and files work without it", name)

    async def _start_tunnel(self) -> None:
        assert self._tunnel is not None
        self.ports["tunnel"] = await self._tunnel.start(self._settings.host, self._settings.tunnel_port)

    async def _start_events(self) -> None:
        settings = self._settings
        await self._listen("events", EventsApp(settings, self._state), settings.events_port)
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
        address = settings.events_address or f"http://{host}:{self.ports['events']}"
        self._state.system_env["E2B_EVENTS_ADDRESS"] = address

    async def _start_interpreter(self) -> None:
        from appliance.runtime.interpreter.app import create_app

        channel: Any = self._channel  # here the supervisor's whole channel is needed, not only its ``save_state``
        interpreter = create_app(self._state, channel)
        await self._listen("interpreter", interpreter, self._settings.interpreter_port)
        self._interpreter = interpreter
        await interpreter.start()

    async def stop(self) -> None:
        """Stop accepting, let requests finish for a moment, close. Bounded by ``shutdown_timeout`` and a second."""
        for listener in self._listeners:
            listener.stop_accepting()
        await asyncio.gather(*(listener.drain() for listener in self._listeners))
        if self._interpreter is not None:
            await self._interpreter.close()
        if self._tunnel is not None:
            await self._tunnel.close()
        self._envd.close()
