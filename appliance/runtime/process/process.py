"""One process a client started. It belongs to the runtime, never to the request that started it.

Life: output is read as it comes and fanned out; the end is told when the child is reaped *and* its pipes are at their
end, exactly once. Two exceptions keep that from hanging: after a signal from a client, or the deadline's kill, a
grandchild that still holds the pipes only delays the end by ``signal_drain`` seconds. What it writes later is read
and dropped, so it is never blocked.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from appliance.runtime.connect.errors import Code, ConnectError
from appliance.runtime.process import exits
from appliance.runtime.process.exitwatch import ExitWatch
from appliance.runtime.process.fanout import Fanout, Subscription
from appliance.runtime.process.inputs import Input
from appliance.runtime.process.messages import DataEvent, EndEvent, ProcessConfig, ProcessEvent
from appliance.runtime.process.output import Output
from appliance.runtime.process.spawn import Spawned
from appliance.runtime.settings import RuntimeSettings


class Process:
    """A running or just ended process."""

    def __init__(
        self,
        spawned: Spawned,
        config: ProcessConfig,
        tag: str | None,
        settings: RuntimeSettings,
        on_end: Callable[[Process], None],
    ) -> None:
        self.pid = spawned.pid
        self.config = config
        self.tag = tag
        self.end: EndEvent | None = None
        """Set once the end has been told."""
        self._on_end = on_end
        self._drain = settings.signal_drain
        self._signalled = False
        self._exit: EndEvent | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._fanout = Fanout(settings.stream_buffer, self._resume)
        self._outputs = {name: Output(fd, name, self._publish, self._closed) for name, fd in spawned.outputs.items()}
        pty = self._outputs.get("pty")
        self.stdin = None if spawned.stdin is None else Input(spawned.stdin, owned=True)
        self.pty = None if pty is None else Input(pty.descriptor, owned=False)
        self._watch = ExitWatch(spawned.pid, self._exited)

    @property
    def running(self) -> bool:
        """The child has not been reaped."""
        return self._exit is None

    def subscribe(self) -> Subscription:
        """Listen to what happens from now on."""
        return self._fanout.subscribe()

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop listening."""
        self._fanout.unsubscribe(subscription)

    def set_deadline(self, seconds: float, starter: Subscription) -> None:
        """After ``seconds`` kill the child and end ``starter``'s stream with deadline_exceeded."""
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(seconds, self._expire, starter))

    def _expire(self, starter: Subscription) -> None:
        self.send_signal(signal.SIGKILL)
        starter.put(ConnectError(Code.DEADLINE_EXCEEDED, "context deadline exceeded"))

    def send_signal(self, number: int) -> bool:
        """Signal the direct child only; False when it is gone."""
        sent = self._watch.send_signal(number)
        self._signalled |= sent
        return sent

    def _publish(self, name: str, data: bytes) -> bool:
        """Output has come; returns whether reading may go on."""
        if self.end is not None:
            return True
        event = DataEvent(**{name: data})
        self._fanout.publish(ProcessEvent(data=event), len(data))
        return not self._fanout.full

    def _resume(self) -> None:
        if not self._fanout.full:
            for output in self._outputs.values():
                output.resume()

    def _closed(self) -> None:
        """A pipe has reached its end."""
        if self.pty is not None:
            self.pty.close()  # at once: the descriptor number may be given away
        if self._exit is not None and all(output.at_end for output in self._outputs.values()):
            self._finish()

    def _exited(self, status: int | None) -> None:
        self._exit = exits.UNKNOWN if status is None else exits.end_event(status)
        if self.stdin is not None:
            self.stdin.close()
        if all(output.at_end for output in self._outputs.values()):
            self._finish()
        elif self._signalled or "pty" in self._outputs:
            self._timers.append(asyncio.get_running_loop().call_later(self._drain, self._stop_waiting))

    def _stop_waiting(self) -> None:
        """The child is gone but somebody holds its pipes: pass on what is there now, then tell the end."""
        if any(not output.at_end and output.paused for output in self._outputs.values()):
            # A listener is slow: what the child wrote still waits in the pipe. The end must not overtake it.
            self._timers.append(asyncio.get_running_loop().call_later(self._drain, self._stop_waiting))
            return
        for output in self._outputs.values():
            output.drain()
        self._finish()

    def _finish(self) -> None:
        if self.end is not None:
            return
        assert self._exit is not None
        self.end = self._exit
        for timer in self._timers:
            timer.cancel()
        self._fanout.publish(ProcessEvent(end=self.end))
        if self.pty is not None:
            self.pty.close()
        self._on_end(self)
