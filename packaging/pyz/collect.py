"""The tree that goes into the file: the locked libraries for every Python it runs on, this checkout's code, pruned.

Pure Python is the same for every version; compiled modules carry the version in their names, so those of all versions
lie side by side in one tree. pip is asked for wheels of a fixed platform, never of the building interpreter: the
result does not depend on who builds. Compiled modules are stripped, which halves them.
"""

from __future__ import annotations

import filecmp
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pyz.prune import prune

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux_2_12", "manylinux_2_5", "manylinux1")
OURS = ("appliance", "tui")


def collect(root: Path, lock: Path, work: Path) -> Path:
    """Make the tree below ``work`` and return it. Raises ``RuntimeError``, naming what could not be had."""
    first = work / "site"
    _install(lock, VERSIONS[0], first)
    compiled = work / "compiled.lock"
    compiled.write_text(only(lock.read_text(), _compiled(first)))
    for version in VERSIONS[1:]:
        other = work / f"site-{version}"
        _install(compiled, version, other)
        _merge(first, other)
    prune(first)
    _strip(first)
    for name in OURS:
        if (root / name).is_dir():
            shutil.copytree(root / name, first / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    _normalise(first)
    return first


def only(lock: str, names: set[str]) -> str:
    """Those entries of a lock file, hashes and all, that pin one of ``names`` (normalised)."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return "".join(entry for entry in entries if _normal(re.split(r"[=\[ ;]", entry, maxsplit=1)[0]) in names)


def _compiled(tree: Path) -> set[str]:
    """Names of the distributions that have a wheel for each platform."""
    found = (path for path in tree.glob("*.dist-info/WHEEL") if "Root-Is-Purelib: false" in path.read_text())
    return {_normal(path.parent.name.split("-")[0]) for path in found}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _install(lock: Path, version: str, tree: Path) -> None:
    tags = [f"--platform={name}_{platform.machine()}" for name in PLATFORMS]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", f"--python-version={version}", *tags]
    done = subprocess.run([*command, f"--target={tree}", "-r", str(lock)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the libraries for Python {version} could not be installed:\n{done.stderr[-2000:]}")


def _merge(into: Path, tree: Path) -> None:
    """Add the compiled modules of another version; everything else has to be the same."""
    for path in sorted(tree.rglob("*")):
        name = path.relative_to(tree)
        if not path.is_file() or name.parts[0].endswith(".dist-info") or name.parts[0] == "bin":
            continue
        target = into / name
        if target.exists():
            if not filecmp.cmp(path, target, shallow=False):
                raise RuntimeError(f"{name} differs between versions of Python; it cannot be shared")
        elif ".so" in path.name:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        else:
            raise RuntimeError(f"{name} exists for one version of Python only")
    shutil.rmtree(tree)


def _strip(tree: Path) -> None:
    """Drop symbols no loader reads. Libraries that auditwheel renamed stay as they are: it moved their sections."""
    modules = [path for path in sorted(tree.rglob("*.so")) if not path.parent.name.endswith(".libs")]
    subprocess.run(["strip", "--strip-unneeded", *map(str, modules)], check=True)


def _normalise(tree: Path) -> None:
    """The modes of a checkout depend on its owner's umask; those in the file do not."""
    for path in tree.rglob("*"):
        path.chmod(0o755 if path.is_dir() or ".so" in path.name else 0o644)
