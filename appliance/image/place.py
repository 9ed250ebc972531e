"""The sidecar of a sandbox on Kubernetes: places the self-contained tree in the volume shared with the main container.

Run as the image's entry point without arguments and with ``AGENT_RUNTIME_WORKSPACE`` set (the seed's manifest), or as
``appliance inject``. The runtime's program appears last and by rename, so whoever finds it finds all of it; placing
again over a complete tree of the same build does nothing. Afterwards it only waits for the pod to end.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

from appliance.api.labels import RUNTIME_ENTRY, WORKSPACE_ENV
from appliance.image import tree

AWAIT_TIMEOUT = 300.0
"""Seconds that ``--await`` waits; what takes longer is told by the sidecar's own log."""
_POLL = 0.02
_MARK = ".appliance-build"
_OTHER_ROLES = re.compile(
    r"(aio[a-z_]*|cffi|_cffi_backend|cryptography|flask|frozenlist|h2|hpack|hypercorn|hyperframe|jinja2|kubernetes|"
    r"markdown_it|mdit_py_plugins|multidict|oauthlib|propcache|pycparser|pydantic|pydantic_core|quart|requests_oauthlib|"
    r"rich|textual|textual_serve|tui|werkzeug|yarl)([-.].*)?"
)
"""Libraries at the top of ``site`` and ``app`` that the runtime and its kernels never import (an import contract of the
checkout says so for most): every sandbox has a copy of the rest, so half of the bytes and files stay out of it."""
_PROGRAMS = frozenset({"appliance", RUNTIME_ENTRY})


def place(source: Path, workspace: Path) -> None:
    """Copy the tree ``source`` to ``workspace`` and make its programs there.

    Raises:
        ValueError: ``source`` is no such tree, or ``workspace`` is not an absolute path.
        OSError: it cannot be written.
    """
    if not workspace.is_absolute():
        raise ValueError(f"{WORKSPACE_ENV}: expected an absolute path, got {str(workspace)!r}")
    if not (source / "boot.py").is_file():
        raise ValueError(
            f"{source} is not a self-contained tree; inject runs from the image of `appliance image build`"
        )
    if complete(source, workspace):
        return
    (workspace / RUNTIME_ENTRY).unlink(missing_ok=True)
    _copy_tree(source, workspace)
    (workspace / _MARK).write_text(_build(source))
    tree.programs(workspace, str(workspace))


def complete(source: Path, workspace: Path) -> bool:
    """Whether this build's tree is in the workspace, whole."""
    mark = workspace / _MARK
    return (workspace / RUNTIME_ENTRY).exists() and mark.is_file() and mark.read_text() == _build(source)


def _copy_tree(source: Path, target: Path) -> None:
    """Contents and modes; owners and times are the volume's own, whose root need not be ours."""
    for directory, folders, names in os.walk(source):
        place = Path(directory).relative_to(source)
        if str(place) in ("site", "app"):
            folders[:] = [name for name in folders if not _OTHER_ROLES.fullmatch(name)]
            names = [name for name in names if not _OTHER_ROLES.fullmatch(name)]
        here = target / place
        for folder in folders:
            (here / folder).mkdir(exist_ok=True)
        for name in names:
            if directory == str(source) and name in _PROGRAMS:
                continue
            (here / name).unlink(missing_ok=True)  # may be mapped by a runtime of an earlier build
            shutil.copyfile(Path(directory, name), here / name)
            shutil.copymode(Path(directory, name), here / name)


def _build(source: Path) -> str:
    return hashlib.sha256((source / "build").read_bytes()).hexdigest()


def _awaited(source: Path, workspace: Path) -> int:
    deadline = time.monotonic() + AWAIT_TIMEOUT
    while not complete(source, workspace):
        if time.monotonic() > deadline:
            sys.stderr.write(f"the runtime was not placed in {workspace} within {AWAIT_TIMEOUT:g} s\n")
            return 1
        time.sleep(_POLL)
    return 0


def run(check: bool, once: bool, wait: bool = False) -> int:
    """``appliance inject``: place, then wait for SIGTERM (``once``: end); ``check`` only says by the exit code if it is
    done, ``wait`` ends when it is, as the sidecar's postStart hook, for which the kubelet holds back what comes next.
    """
    named = os.environ.get(WORKSPACE_ENV)
    if not named:
        raise ValueError(f"{WORKSPACE_ENV} is not set; it names the volume that the main container shares")
    source, workspace = Path(os.environ.get("APPLIANCE_PYZ", "/")).parent, Path(named)
    if check:
        return 0 if complete(source, workspace) else 1
    if wait:
        return _awaited(source, workspace)
    ending = {signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # as pid 1 a signal without a handler would be dropped
    try:
        place(source, workspace)
        sys.stdout.write(f"runtime placed in {workspace}\n")
        sys.stdout.flush()
        if not once:
            signal.sigwait(ending)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return 0
