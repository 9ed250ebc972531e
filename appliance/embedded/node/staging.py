"""Starts the template where a sandbox's paths already hold: /opt/appliance/{python,site,app} and /opt/venv.

The interpreter may live anywhere on the box, often in a home directory that sandboxes must not see. This program,
run by the box's interpreter, makes a mount namespace in which those places are bound read-only under /opt, and then
executes the interpreter *there*: what the template imports, and every path it remembers, is the same inside the
sandboxes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

import appliance
from appliance.embedded.node import syscalls

HOME = "/opt/appliance"
VENV = "/opt/venv"
_READ_ONLY = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV


@dataclass(frozen=True, slots=True)
class Installation:
    """Where this program's own parts are on the box."""

    python: Path
    """Prefix of the base interpreter."""
    site: Path
    """Directory of the installed libraries."""
    app: Path
    """The ``appliance`` package, or the zip file that holds it."""

    @classmethod
    def current(cls) -> Installation:
        """Of the running interpreter; the libraries are where they were found, be it an extracted appliance.pyz."""
        libraries = Path(msgspec.__file__).parents[1]
        return cls(Path(sys.base_prefix).resolve(), libraries, _package())

    def fingerprint(self) -> str:
        """Changes when the code does, so that an old template is not used with a new agent."""
        files = [self.app, *self.app.rglob("*.py")] if self.app.is_dir() else [self.app]
        newest = max(path.stat().st_mtime_ns for path in files)
        # A digest: it stands in the template's arguments, which sandboxes can read.
        return hashlib.sha256(f"{self.python}:{self.site}:{self.app}:{newest}".encode()).hexdigest()[:16]

    def interpreter(self) -> str:
        """Name of the interpreter below the prefix's bin."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return version if (self.python / "bin" / version).exists() else Path(sys.executable).name

    def in_usr(self) -> bool:
        """Whether the interpreter is the box's own, visible in every sandbox anyway."""
        return str(self.python) == "/usr"


def _package() -> Path:
    package = Path(appliance.__file__).parent
    for path in (package, *package.parents):
        if path.is_file():
            return path
    return package


def mount(installation: Installation, skeleton: Path) -> list[str]:
    """Make the mount namespace; returns the directories for PYTHONPATH. Raises ``OSError``."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    sources = {"site": installation.site, "app/appliance": installation.app, "python": installation.python}
    trees = {name: syscalls.clone_tree(str(path)) for name, path in sources.items()}
    venv = syscalls.clone_tree(str(skeleton / VENV.lstrip("/")))
    syscalls.mount("tmpfs", "/opt", "tmpfs", 0, "mode=755,size=1m")
    packed = installation.app.is_file()
    for name, tree in trees.items():
        target = Path(HOME, "app.pyz" if packed and name.startswith("app") else name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch() if packed and name.startswith("app") else target.mkdir(parents=True)
        syscalls.set_tree_attributes(tree, _READ_ONLY)
        syscalls.attach_tree(tree, str(target))
    for path in (VENV, "/opt/stage"):
        os.mkdir(path)
    syscalls.set_tree_attributes(venv, _READ_ONLY)
    syscalls.attach_tree(venv, VENV)
    return [f"{HOME}/app.pyz" if packed else f"{HOME}/app"]


def teach_loader(installation: Installation, skeleton: Path) -> None:
    """Let programs in sandboxes find the interpreter's shared library where it is for them.

    An interpreter built with a shared library looks for it where it was built, which is not visible inside; the next
    best would be another libpython of the box, of another version. Runs once per skeleton, inside the mount namespace.
    """
    libraries = f"{HOME}/python/lib"
    note = skeleton / "etc/ld.so.conf.d/00-appliance.conf"
    if note.exists() or installation.in_usr() or not list(installation.python.glob("lib/libpython*.so*")):
        return
    note.parent.mkdir(parents=True, exist_ok=True)
    fresh = note.with_suffix(".new")
    fresh.write_text(f"{libraries}\ninclude /etc/ld.so.conf.d/*.conf\n")
    cache = str(skeleton / "etc/ld.so.cache")
    path = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
    command = ["ldconfig", "-X", "-i", "-C", cache, "-f", str(fresh)]
    subprocess.run(command, check=False, env=path, timeout=60, stderr=subprocess.DEVNULL)
    fresh.write_text(f"{libraries}\n")
    fresh.rename(note)


def environment() -> dict[str, str]:
    """What this program needs to be found, started as ``-m`` by any of our processes."""
    package = Path(appliance.__file__).parent
    search = [str(package.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))}


def compile_once(installation: Installation) -> None:
    """Leave compiled modules in a freshly extracted tree; read-only as it is in the template, it could not keep any.

    Done by importing what a template imports, once per tree and version of Python. A tree that cannot be written to is
    left alone: it costs time at every start, nothing else.
    """
    note = installation.site.parent / f".compiled-{sys.implementation.cache_tag}"
    if "APPLIANCE_PYZ" not in os.environ or note.exists() or not os.access(installation.site, os.W_OK):
        return
    code = (
        "from appliance.embedded.node import template; from appliance.runtime import supervisor; supervisor.preload()"
    )
    quiet = {name: value for name, value in environment().items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-P", "-s", "-c", code], check=False, env=quiet, timeout=60, cwd="/")
    if done.returncode == 0:
        with contextlib.suppress(OSError):
            note.touch()


def main(arguments: list[str]) -> None:
    """``SOCKET MODE BUILD SKELETON``: becomes the template."""
    target, mode, build, skeleton = arguments
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # the places are read-only, and many forks share them
    # Sandboxes keep the descriptor-less template's limits; numeric libraries must not start a thread per core in it.
    environment |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    installation = Installation.current()
    compile_once(installation)
    if mode == "namespaces":
        search = mount(installation, Path(skeleton))
        teach_loader(installation, Path(skeleton))
        interpreter = f"{VENV}/bin/python3"
    else:
        search = [str(installation.app.parent if installation.app.is_dir() else installation.app)]
        interpreter = sys.executable
    environment["PYTHONPATH"] = os.pathsep.join(search)
    os.chdir("/")
    command = [interpreter, "-P", "-s", "-m", "appliance.embedded.node.template", target, mode, build]
    os.execve(interpreter, command, environment)


if __name__ == "__main__":
    main(sys.argv[1:])
