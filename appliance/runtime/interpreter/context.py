"""A context: a kernel with a working directory, a lock and a place in the list. It survives its kernel.

Executions of one context run one after the other. A kernel that dies is replaced at once, so that the next execution
works, on a fresh namespace; the one that was running is told. What a client abandons is interrupted, and the lock is
kept until the kernel is really idle again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final

import msgspec

from appliance.runtime.interpreter import events, languages
from appliance.runtime.interpreter.client import Inbox, Message
from appliance.runtime.interpreter.kernels import Kernel, KernelError, Kernels, describe_exit

_INTERRUPT_AGAIN: Final = 1.0
"""Seconds after which a cell that ignored an interrupt gets another."""
_REQUESTS: Final = 2
"""Interrupt requests that a kernel which takes no signals may ignore before it is replaced."""
_LAST_WORDS: Final = 0.05
"""Seconds for output that is still in the socket when its kernel is gone."""
_REPLY_TIMEOUT: Final = 10.0
"""Seconds between the end of a cell's output and the kernel's verdict, which was sent before: on a box with far more
work than processors another thread of the kernel may well need seconds to forward it."""
_FENCE_TIMEOUT: Final = 5.0
"""Seconds for a kernel that publishes output late to run an empty cell behind the one it calls finished."""
_EXIT_TIMEOUT: Final = 1.0
"""Seconds a kernel that was told to exit may take before it is killed."""
_REVIVALS: Final = 5
"""Kernels that may die in a row before they answered, until the context waits for somebody to need it."""


class Memo(msgspec.Struct, frozen=True):
    """What the next server process must know of a context."""

    context_id: str
    language: str
    cwd: str
    number: int
    default: bool
    applied: dict[str, str]


class Context:
    """One execution context. Made by ``Contexts``; use within one event loop."""

    def __init__(self, kernels: Kernels, memo: Memo) -> None:
        self.id = memo.context_id
        self.language = memo.language
        self.cwd = memo.cwd
        self.number = memo.number
        self.default = memo.default
        self.lock = asyncio.Lock()
        self._kernels = kernels
        self._kernel: Kernel | None = None
        self._applied = dict(memo.applied)
        """Global variables that the kernel has already."""
        self._snippets = 0
        """Silent requests sent to this kernel (by this server process)."""
        self._starting = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[None]] = set()
        self._restarted: Kernel | None = None
        """The kernel that ``restart`` ended last: whoever ran a cell in it is told so."""
        self._closed = False

    @property
    def ready(self) -> bool:
        """A kernel is there and answers."""
        return self._kernel is not None and not self._kernel.exited.done()

    async def start(self) -> None:
        """Have a kernel. Raises ``KernelError``."""
        async with self._starting:
            if self.ready:
                return
            self._applied = {}
            kernel = await self._kernels.start(self.language, self.cwd, self._memo())
            if self._closed:
                kernel.kill()
                raise KernelError(f"Context {self.id} was removed")
            self._adopt(kernel)

    async def adopt(self, kernel: Kernel) -> None:
        """Take over a kernel of a previous server process, ending the cell that lost its client."""
        kernel.interrupt()
        self._adopt(kernel)

    def _adopt(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._snippets = 0
        self._watch = asyncio.create_task(self._revive(kernel), name=f"context {self.id}")

    async def _revive(self, kernel: Kernel) -> None:
        await asyncio.shield(kernel.exited)
        await asyncio.sleep(_LAST_WORDS)
        await kernel.client.close()
        for _ in range(_REVIVALS):
            if self._closed:
                return
            with contextlib.suppress(KernelError):
                await self.start()
                return

    async def restart(self) -> None:
        """Replace the kernel by a fresh one; a running execution ends with ``ContextRestarting``. Raises
        ``KernelError``.
        """
        kernel = self._kernel
        if kernel is not None and not kernel.exited.done():
            self._restarted = kernel
            kernel.kill()
            await asyncio.shield(kernel.exited)
        await self.start()

    async def close(self, *, kill: bool) -> None:
        """Let go of the kernel, and end it when ``kill``; a running execution then ends with an error."""
        self._closed = True
        if kill and self._kernel is not None:
            self._kernel.kill()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._kernel.exited), 5.0)
        for task in (self._watch, *self._settling):
            if task is not None:
                task.cancel()

    # Executing ----------------------------------------------------------------------------------------------------
    async def execute(
        self, code: str, global_env: Mapping[str, str], call_env: Mapping[str, str]
    ) -> AsyncGenerator[Any, None]:
        """Run a cell; yields events until it is over. The caller holds no lock; waiting for it is part of this.

        Closing the iterator early interrupts the cell.
        """
        await self.lock.acquire()
        release = True
        try:
            try:
                await self.start()
            except KernelError as error:
                yield events.error("UnexpectedEndOfExecution", f"The kernel could not be started: {error}")
                return
            kernel = self._kernel
            assert kernel is not None
            inbox = self._send(kernel, code, global_env, call_env)
            finished = False
            try:
                async for event in self._events(kernel, inbox):
                    yield event
                finished = True
            finally:
                if not finished and not kernel.exited.done():
                    release = False
                    self._settle(kernel, inbox, global_env, call_env)
                else:
                    kernel.client.forget(inbox)
                    self._restore(kernel, global_env, call_env)
        finally:
            if release:
                self.lock.release()

    def _send(self, kernel: Kernel, code: str, global_env: Mapping[str, str], call_env: Mapping[str, str]) -> Inbox:
        changes = {name: value for name, value in global_env.items() if self._applied.get(name) != value}
        gone = [name for name in self._applied if name not in global_env]
        if changes or gone:
            self._applied = dict(global_env)
            kernel.remember(self._memo())
        self._set({**dict.fromkeys(gone), **changes, **call_env}, kernel)
        inbox = kernel.client.execute(code)
        assert inbox is not None
        return inbox

    def _restore(self, kernel: Kernel, global_env: Mapping[str, str], call_env: Mapping[str, str]) -> None:
        # Sent behind the cell without waiting: the kernel takes requests in order, so the next cell finds it done.
        if not kernel.exited.done():
            self._set({name: global_env.get(name) for name in call_env}, kernel)

    def _set(self, changes: Mapping[str, str | None], kernel: Kernel) -> None:
        if changes and (code := languages.get(self.language).environment(changes)):
            kernel.client.execute(code, silent=True)
            self._snippets += 1

    async def _events(self, kernel: Kernel, inbox: Inbox) -> AsyncIterator[Any]:
        translator = events.Translator()
        reply: Message | None = None
        idle = False
        while not idle or reply is None:
            message = await self._next(kernel, inbox, _REPLY_TIMEOUT if idle else None)
            if message is None and not kernel.exited.done():
                yield events.error("UnexpectedEndOfExecution", "The kernel failed to answer the execution")
                return
            if message is None:
                yield self._lost(kernel)
                return
            if message.kind == "status":
                idle = idle or message.content.get("execution_state") == "idle"
            elif message.kind == "execute_reply":
                reply = message  # another socket: it may overtake the output, and has the last word
            elif (event := translator.event(message.kind, message.content, message.date)) is not None:
                yield self._counted(event)
        if languages.get(self.language).late_output:
            await self._fence(kernel)
            while not inbox.empty():
                late = inbox.get_nowait()
                if (event := translator.event(late.kind, late.content, late.date)) is not None:
                    yield self._counted(event)
        if (event := translator.event(reply.kind, reply.content, reply.date)) is not None:
            yield event
        if _asked_to_exit(reply):
            await self._leave(kernel)

    async def _fence(self, kernel: Kernel) -> None:
        """Wait, within bounds, until the kernel has published what belongs to the cell it calls finished."""
        fence = kernel.client.fence()
        try:
            while message := await self._next(kernel, fence, _FENCE_TIMEOUT):
                if message.kind == "status" and message.content.get("execution_state") == "idle":
                    return
        finally:
            kernel.client.forget(fence)

    def _counted(self, event: dict[str, Any]) -> dict[str, Any]:
        """``event`` with the number of the client's executions where the kernel counts ours as well."""
        if event["type"] == "number_of_executions" and languages.get(self.language).counts_silent:
            return {**event, "execution_count": event["execution_count"] - self._snippets}
        return event

    async def _leave(self, kernel: Kernel) -> None:
        """The cell called ``exit()``: the kernel ends in a moment, and the next cell must not be sent to it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(kernel.exited), _EXIT_TIMEOUT)
            return
        kernel.kill()
        await asyncio.shield(kernel.exited)

    async def _next(self, kernel: Kernel, inbox: Inbox, timeout: float | None) -> Message | None:
        """The next message, or None after ``timeout`` seconds or when the kernel is gone and said all it had to say."""
        if not inbox.empty():
            return inbox.get_nowait()
        getter = asyncio.ensure_future(inbox.get())
        try:
            either: set[asyncio.Future[Any]] = {getter, kernel.exited}
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not getter.done():
                await asyncio.wait({getter}, timeout=_LAST_WORDS)
            return getter.result() if getter.done() else None
        finally:
            getter.cancel()

    def _lost(self, kernel: Kernel) -> dict[str, Any]:
        if self._restarted is kernel:
            return events.error("ContextRestarting", "Context was restarted")
        if self._closed:
            return events.error("UnexpectedEndOfExecution", "The context was removed before the execution was finished")
        how = describe_exit(kernel.exited.result())
        text = (
            f"The kernel died before the execution was finished ({how}). It was restarted and its variables are lost."
        )
        return events.error("UnexpectedEndOfExecution", text)

    # Abandoned cells ----------------------------------------------------------------------------------------------
    def _settle(self, kernel: Kernel, inbox: Inbox, global_env: Mapping[str, str], call_env: Mapping[str, str]) -> None:
        async def drain() -> None:
            async for _ in self._events(kernel, inbox):
                pass

        drained = asyncio.create_task(drain(), name=f"drain {self.id}")

        async def settle() -> None:
            try:
                for attempt in itertools.count():
                    if drained.done():
                        break
                    if kernel.deaf_to_signals and attempt >= _REQUESTS:
                        kernel.kill()  # such kernels cannot interrupt every wait, and the next cell must run
                    else:
                        kernel.interrupt()
                    await asyncio.wait({drained}, timeout=_INTERRUPT_AGAIN)
                self._restore(kernel, global_env, call_env)
            finally:
                drained.cancel()
                kernel.client.forget(inbox)
                self.lock.release()

        task = asyncio.create_task(settle(), name=f"settle {self.id}")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    def _memo(self) -> bytes:
        memo = Memo(self.id, self.language, self.cwd, self.number, self.default, self._applied)
        return msgspec.msgpack.encode(memo)


def _asked_to_exit(reply: Message) -> bool:
    """Whether an ``execute_reply`` says that the kernel will end (``exit()`` without keeping it)."""
    payload = reply.content.get("payload") or ()
    return any(entry.get("source") == "ask_exit" and not entry.get("keepkernel") for entry in payload)
