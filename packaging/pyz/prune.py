"""What is left out of the file, and why: a table of patterns over the tree that pip installed.

Only what no role imports goes. The test of the rule is the built file itself: ``tests/e2e/test_pyz.py`` runs every
role from it. Licences and metadata of every library stay.
"""

from __future__ import annotations

import shutil
from pathlib import Path

RULES: dict[str, tuple[str, ...]] = {
    "installed programs; the file is the program": ("bin",),
    "typing stubs and sources of compiled modules": (
        "**/*.pyi", "**/*.pyx", "**/*.pxd", "**/*.pxi", "**/*.c", "**/*.h", "**/*.scm", "**/py.typed", "**/*.hash",
        "aiohttp/.hash",
    ),
    "test suites": (
        "**/tests", "tornado/test", "kubernetes/e2e_test", "kubernetes/test", "multidict/_testcapi*", "adodbapi",
    ),
    "installer bookkeeping; no pip manages this tree": (
        "*.dist-info/RECORD", "*.dist-info/INSTALLER", "*.dist-info/REQUESTED", "*.dist-info/WHEEL",
        "*.dist-info/sboms", "*.dist-info/top_level.txt",
    ),
    "typed Kubernetes models and calls; only configuration and credentials are used": (
        "kubernetes/client/models/*_*.py", "kubernetes/aio/client/models/*_*.py",
        "kubernetes/client/api/*_*.py", "kubernetes/aio/client/api/*_*.py", "kubernetes/docs",
    ),
    "compiled twins of modules that nothing here is in a hurry for": (
        "charset_normalizer/*.so", "wcwidth/*.so",
    ),
    "the first generation of pydantic": ("pydantic/v1",),
    "time zones: a box has its own, and pandas brings them where it is": ("tzdata", "tzdata-*"),
    "launchers for Windows": ("pip/_vendor/distlib/*.exe",),
    "completion and debugging of a kernel, each bigger than the rest of it": ("jedi", "parso", "debugpy"),
    "reads C declarations at build time of other people's libraries": ("pycparser", "cffi"),
    "front-end of a notebook in a browser": ("ipykernel/resources", "share", "etc"),
}  # fmt: skip
_KEEP = frozenset({"__init__.py"})


def prune(tree: Path) -> int:
    """Remove what the table names from ``tree``; returns the number of bytes."""
    removed = 0
    for patterns in RULES.values():
        for pattern in patterns:
            for path in sorted(tree.glob(pattern)):
                if path.name not in _KEEP:
                    removed += _remove(path)
    return removed


def _remove(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        shutil.rmtree(path)
        return size
    size = path.lstat().st_size
    path.unlink()
    return size
