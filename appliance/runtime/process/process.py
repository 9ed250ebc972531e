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
from appliance.runtime.process.keeping import AdoptedWatch, Keeper, Kept, config_of
from appliance.runtime.process.messages import DataEvent, EndEvent, ProcessConfig, ProcessEvent
from appliance.runtime.process.output import Output
from appliance.runtime.process.spawn import Spawned
from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.supervise.messages import ProcessRecord


class Process:
    """A running or just ended process."""

    def __init__(
        self,
        spawned: Spawned,
        config: ProcessConfig,
        tag: str | None,
        settings: RuntimeSettings,
        on_end: Callable[[Process], None],
        keeper: Keeper | None = None,
        adopted: ProcessRecord | None = None,
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
        self._deadline: float | None = None
        self._kept = Kept(keeper, self.pid, config, tag)
        self._watch: ExitWatch | AdoptedWatch
        if adopted is None:
            self._watch = ExitWatch(self.pid, self._exited)
            self._kept.later(self._descriptors, lambda: self._deadline)
        else:
            self._watch = AdoptedWatch(adopted.descriptors["pidfd"], adopted.status, self._exited)
            self._kept.adopted()
            if adopted.keep.deadline is not None:
                self._set_timer(adopted.keep.deadline, None)

    @classmethod
    def adopt(
        cls, record: ProcessRecord, settings: RuntimeSettings, on_end: Callable[[Process], None], keeper: Keeper
    ) -> Process:
        """Take over a command of an earlier server process."""
        outputs = {name: fd for name, fd in record.descriptors.items() if name in ("stdout", "stderr", "pty")}
        spawned = Spawned(record.keep.pid, record.descriptors.get("stdin"), outputs)
        return cls(spawned, config_of(record), record.keep.tag, settings, on_end, keeper, record)

    def told_end(self, status: int) -> None:
        """The supervisor has reaped an adopted command; its wait status."""
        if isinstance(self._watch, AdoptedWatch):
            self._watch.ended(status)

    def _descriptors(self) -> dict[str, int] | None:
        """What a next server process would need; None once the child is gone."""
        pidfd = self._watch.pidfd
        if pidfd is None or self._exit is not None:
            return None
        stdin = {} if self.stdin is None or self.stdin.closed else {"stdin": self.stdin.descriptor}
        outputs = {name: output.descriptor for name, output in self._outputs.items() if not output.at_end}
        return {"pidfd": pidfd, **stdin, **outputs}

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
        self._set_timer(asyncio.get_running_loop().time() + seconds, starter)

    def _set_timer(self, deadline: float, starter: Subscription | None) -> None:
        self._deadline = deadline  # of the system's monotonic clock, which the next server process shares
        self._timers.append(asyncio.get_running_loop().call_at(deadline, self._expire, starter))

    def _expire(self, starter: Subscription | None) -> None:
        self.send_signal(signal.SIGKILL)
        if starter is not None:
            starter.put(ConnectError(Code.DEADLINE_EXCEEDED, "context deadline exceeded"))

    def close_stdin(self) -> None:
        """End of input; idempotent, nothing without a standard input."""
        if self.stdin is not None and not self.stdin.closed:
            self.stdin.close()
            self._kept.drop_stdin()

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
        self.close_stdin()
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
        self._kept.release()
        if self.pty is not None:
            self.pty.close()
        self._on_end(self)
