"""Where a kernel's Python looks for packages, and which interpreter is behind ``sys.executable``.

The kernel is a fork: it never ran an interpreter's start-up in the sandbox, so what ``site`` would have done there is
done here.
"""

from __future__ import annotations

import os
import shutil
import site
import sys
import sysconfig
from pathlib import Path


def arrange() -> None:
    """Set ``sys.executable`` and extend ``sys.path`` for this process's account and root file system."""
    sys.executable = interpreter()
    sys.argv = [""]
    add_user_site()
    for path in base_site_packages():
        if path not in sys.path:
            sys.path.append(path)


def interpreter() -> str:
    """A real Python program of this version that can ``-m pip``; the empty string when the root has none.

    The interpreter under a virtual environment is preferred over the environment's own: an account that may not
    write there can install packages only into its user directory, which a virtual environment ignores.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    base = getattr(sys, "_base_executable", "")
    named = [shutil.which(name) for name in (f"python{version}", "python3")]
    own = (
        []
        if sys.prefix != sys.base_prefix and not os.access(sysconfig.get_path("purelib"), os.W_OK)
        else [sys.executable]
    )
    for candidate in (*own, base, *named, sys.executable):
        if candidate and os.access(candidate, os.X_OK) and Path(candidate).is_file():
            return candidate
    return ""


def add_user_site() -> None:
    """Put ``~/.local/lib/pythonX.Y/site-packages`` first among the package directories, existing or not."""
    site.USER_BASE = site.USER_SITE = None  # computed for the template's account
    directory = site.getusersitepackages()
    site.ENABLE_USER_SITE = True
    if directory in sys.path:
        return
    first = next(
        (i for i, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages"))), len(sys.path)
    )
    sys.path.insert(first, directory)


def base_site_packages() -> list[str]:
    """Package directories of the interpreter under a virtual environment, where root's ``pip install`` puts things."""
    return [path for path in site.getsitepackages([sys.base_prefix, sys.base_exec_prefix]) if os.path.isdir(path)]
