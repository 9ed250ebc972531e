"""The contexts of a sandbox: the default ones, those that clients made, and those inherited from an earlier server
process.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import uuid
from typing import Final

import msgspec

from appliance.runtime.interpreter import languages
from appliance.runtime.interpreter.context import Context, Memo
from appliance.runtime.interpreter.kernels import KernelError, Kernels

DEFAULT_CWD: Final = "/home/user"
LISTED: Final = languages.JAVASCRIPT
"""Language whose default context every client finds in the list beside Python's, where its kernel is installed; the
kernel itself starts at the first cell."""
MAX_CONTEXTS: Final = 128
"""Contexts of one sandbox; each is a process of some ten MiB."""


class UnknownContext(LookupError):
    """No such context."""


class Contexts:
    """Registry of one sandbox. Use within one event loop."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self._contexts: dict[str, Context] = {}
        self._defaults: dict[str, Context] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._looked = False
        """Whether the default context of ``LISTED`` is there, if it can be."""
        self._numbers = itertools.count(1)

    @property
    def warm(self) -> bool:
        """The default Python context has a kernel that answers."""
        context = self._defaults.get(languages.PYTHON)
        return context is not None and context.ready

    async def start(self) -> None:
        """Take over inherited kernels, then have the default Python context. Raises ``KernelError``."""
        await self._inherit()
        await self.default(languages.PYTHON)

    async def default(self, language: str) -> Context:
        """The default context of a language, made at its first use. Raises ``KernelError``."""
        async with self._locks.setdefault(language, asyncio.Lock()):
            context = self._defaults.get(language)
            if context is None:
                context = self._defaults[language] = await self._make(language, self._default_cwd(), default=True)
        return context

    async def create(self, language: str, cwd: str | None) -> Context:
        """A new context, in the default directory when ``cwd`` is None or empty. Raises ``KernelError``."""
        return await self._make(language, cwd or self._default_cwd(), default=False)

    def get(self, context_id: str) -> Context:
        """Raises ``UnknownContext``."""
        context = self._contexts.get(context_id)
        if context is None:
            raise UnknownContext(context_id)
        return context

    async def all(self) -> list[Context]:
        """Every context, oldest first."""
        first = self._defaults.get(languages.PYTHON)
        if first is not None and not self._looked:
            await self._list_default(first)
        return sorted(self._contexts.values(), key=lambda context: context.number)

    async def _list_default(self, first: Context) -> None:
        """Have the default context of ``LISTED``, right behind ``first``; the next server process finds the same id."""
        async with self._locks.setdefault(LISTED, asyncio.Lock()):
            if LISTED not in self._defaults and not self._looked and await self._kernels.installed(LISTED):
                own_id = str(uuid.uuid5(uuid.UUID(first.id), LISTED))
                context = Context(self._kernels, Memo(own_id, LISTED, self._default_cwd(), first.number, True, {}))
                self._defaults[LISTED] = self._contexts[own_id] = context
            self._looked = True

    async def remove(self, context_id: str) -> None:
        """End a context and its kernel. A default one is made anew when it is needed. Raises ``UnknownContext``."""
        context = self.get(context_id)
        del self._contexts[context_id]
        if self._defaults.get(context.language) is context:
            del self._defaults[context.language]
        await context.close(kill=True)

    async def close(self) -> None:
        """Let go of everything; kernels live on."""
        for context in self._contexts.values():
            await context.close(kill=False)
        await self._kernels.close()

    async def _make(self, language: str, cwd: str, *, default: bool) -> Context:
        if len(self._contexts) >= MAX_CONTEXTS:
            raise KernelError(f"at most {MAX_CONTEXTS} contexts may exist; remove one first")
        memo = Memo(str(uuid.uuid4()), language, cwd, next(self._numbers), default, {})
        context = Context(self._kernels, memo)
        await context.start()
        self._contexts[context.id] = context
        return context

    async def _inherit(self) -> None:
        last = 0
        for record, kernel in self._kernels.inherited():
            memo = msgspec.msgpack.decode(record.memo, type=Memo)
            last = max(last, memo.number)
            if memo.context_id in self._contexts and kernel is None:
                continue  # its successor lives
            context = self._contexts.get(memo.context_id) or Context(self._kernels, memo)
            self._contexts[context.id] = context
            if context.default:
                self._defaults[context.language] = context
            if kernel is not None:
                await context.adopt(kernel)
        self._numbers = itertools.count(last + 1)

    def _default_cwd(self) -> str:
        return DEFAULT_CWD if os.path.isdir(DEFAULT_CWD) else self._kernels.home
