"""The self-contained tree: interpreter, loader, libraries, application, compiled; started from wherever it lies.

    TREE/appliance            → lib/LOADER --library-path lib python/bin/python3.X -I boot.py …
    TREE/appliance-runtime    → the same with --role=runtime; what the postStart hook runs
    TREE/bin/python3          → the bare interpreter; ``sys.executable`` of everything started above
    TREE/{lib,python,site,app}, TREE/boot.py

The three programs hold the tree's own path (see :mod:`stub`) and are made anew where it is placed; all else is the
same in every place. Bytecode carries the hash of its source, never checked: time stamps do not survive archives.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import py_compile
import re
import shutil
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from appliance.api.labels import RUNTIME_ENTRY
from appliance.box.children import PR_SET_PDEATHSIG
from appliance.image import libraries
from appliance.image.stub import stub

OURS = ("appliance", "tui")
_NOT_IN_STDLIB = frozenset({
    "__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py",
    "lib2to3", "ensurepip", "pydoc_data", "sitecustomize.py", "usercustomize.py", "EXTERNALLY-MANAGED", "LICENSE.txt",
})  # fmt: skip
_NOT_LOADED = ("_test", "_tkinter", "xx", "_xx", "nis.", "ossaudiodev", "_gdbm", "_dbm", "_ctypes_test")
_ABI = re.compile(r"\.cpython-(\d+)-")

BOOT = '''"""Start of the appliance from a self-contained tree; see appliance/image/tree.py."""
import gc, os, sys
gc.disable()  # until the role has been imported, see appliance/commands/roles.py
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [here + "/app", here + "/site"] + [entry for entry in sys.path if entry.startswith(here + "/python/")]
sys.executable = sys._base_executable = here + "/bin/python3"
sys.dont_write_bytecode = True
os.environ["APPLIANCE_PYZ"] = here + "/boot.py"
from appliance.cli import main
sys.exit(main())
'''


def interpreter() -> Path:
    """The program file of the running interpreter, behind virtual environments and links."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def build(site: Path, target: Path, home: str) -> None:
    """Make the tree in ``target``, to be started as ``home``; ``site`` is the extracted site of the single file.

    Raises:
        LibraryMissing: the machine lacks a library that a module needs.
        OSError: something cannot be copied.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = interpreter()
    _copy_file(program, target / "python/bin" / version, 0o755)
    shutil.copytree(sysconfig.get_path("stdlib"), target / "python/lib" / version, ignore=_unwanted)
    shutil.copytree(site, target / "site", ignore=_foreign(site, OURS))
    for name in OURS:
        if (site / name).is_dir():
            shutil.copytree(site / name, target / "app" / name, ignore=_foreign(site, ()))
    _libraries(program, target)
    (target / "boot.py").write_text(BOOT)
    _modes(target)
    compile_all(target, home)
    programs(target, home)


def programs(target: Path, home: str) -> None:
    """Write the tree's three programs for the path ``home``; the runtime's last, for its presence says "complete"."""
    version = next(path.name for path in (target / "python/bin").iterdir())
    loader = next((target / "lib").glob("ld-*")).name
    start = [f"{home}/lib/{loader}", "--library-path", f"{home}/lib", f"{home}/python/bin/{version}"]
    boot = [*start, "-I", f"{home}/boot.py"]
    words = {"bin/python3": start, "appliance": boot, RUNTIME_ENTRY: [*boot, "--role=runtime"]}
    for name, line in words.items():
        path = target / name
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_bytes(stub(line))
        fresh.chmod(0o755)
        fresh.replace(path)


def _libraries(program: Path, target: Path) -> None:
    loader = libraries.loader(program)
    modules = [path for part in ("python", "site") for path in sorted((target / part).rglob("*.so"))]
    for name, path in libraries.needed([program, *modules], loader).items():
        _copy_file(path, target / "lib" / name, 0o755)
    _copy_file(loader.resolve(), target / "lib" / loader.name, 0o755)


def _copy_file(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _unwanted(directory: str, names: Sequence[str]) -> set[str]:
    """What no role imports from the standard library."""
    chosen = {name for name in names if name in _NOT_IN_STDLIB or name.startswith("config-")}
    if directory.endswith("lib-dynload"):
        chosen |= {name for name in names if name.startswith(_NOT_LOADED)}
    return chosen | {name for name in names if os.path.islink(os.path.join(directory, name))}


def _foreign(site: Path, top: Sequence[str]) -> Callable[[str, list[str]], set[str]]:
    """Leaves out compiled modules of other versions, bytecode, and the named packages at the top."""
    own = f"{sys.version_info.major}{sys.version_info.minor}"

    def ignore(directory: str, names: list[str]) -> set[str]:
        other = {name for name in names if (match := _ABI.search(name)) and match[1] != own}
        return other | {"__pycache__"} | (set(top) if Path(directory) == site else set())

    return ignore


def _modes(target: Path) -> None:
    """The same for every builder's umask."""
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def compile_all(target: Path, home: str) -> None:
    """Compile every module of the tree, with the paths it will have. A module that does not compile stays source."""
    forking = multiprocessing.get_context("fork")  # the workers are this process's own children, see end_with
    with ProcessPoolExecutor(os.cpu_count(), forking, initializer=end_with, initargs=(os.getpid(),)) as pool:
        for _ in pool.map(_compile, _sources(target, home), chunksize=64):
            pass


def end_with(parent: int) -> None:
    """In a worker: be killed when ``parent``, its pid, is; idle workers would wait for ever."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died between fork and prctl
        os._exit(1)


def _sources(target: Path, home: str) -> Iterator[tuple[str, str]]:
    for part in ("python", "site", "app"):
        for path in sorted((target / part).rglob("*.py")):
            yield str(path), f"{home}/{path.relative_to(target)}"


def _compile(names: tuple[str, str]) -> None:
    source, shown = names
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    # Templates of other syntax (such as pip's and IPython's samples) are never imported; they need no bytecode.
    py_compile.compile(source, dfile=shown, quiet=2, invalidation_mode=mode)
