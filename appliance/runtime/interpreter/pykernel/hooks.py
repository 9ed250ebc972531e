"""Changes to libraries, made at the moment a cell imports them and not before.

Pillow: saving an image also displays it, and showing one does nothing more (there is no screen).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


def install() -> None:
    """Watch for the imports. Idempotent."""
    if not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport({"PIL.Image": _pillow_image, "PIL.ImageShow": _pillow_show}))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds a watched module through the other finders and has its loader call the hook afterwards."""

    def __init__(self, hooks: dict[str, Callable[[ModuleType], None]]) -> None:
        self._hooks = hooks

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        hook = self._hooks.pop(fullname, None)  # popped: once per process, and no recursion below
        if hook is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, hook)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, inner: importlib.abc.Loader, hook: Callable[[ModuleType], None]) -> None:
        self._inner = inner
        self._hook = hook

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        module.__loader__ = self._inner
        self._hook(module)


def _pillow_image(module: ModuleType) -> None:
    original = module.Image.save

    def save(self: Any, fp: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, fp, *args, **kwargs)
        if isinstance(fp, (str, os.PathLike)):
            from IPython.display import display

            display(self)
        return result

    save.__doc__ = original.__doc__
    module.Image.save = save


def _pillow_show(module: ModuleType) -> None:
    def show_image(self: Any, image: Any, **options: Any) -> bool:
        return True

    module.Viewer.show_image = show_image
    module.Viewer.show = show_image
