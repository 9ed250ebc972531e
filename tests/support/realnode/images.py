"""Images of the node, as archives made without Docker and cached by their recipes.

``busybox`` is also the node's pause image; ``sandbox`` stands for ``e2bdev/code-interpreter`` and is served by the
node's registry under that name, so that ``imagePullPolicy: Always`` works as written; ``appliance`` is the product's
own (``appliance image build`` of ``APPLIANCE_TEST_PYZ`` or ``dist/appliance.pyz``).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from appliance.install.values import IMAGE
from realnode.configs import PAUSE_IMAGE

ROOT = Path(__file__).parents[3]
APPLIANCE = IMAGE
SANDBOX = "docker.io/e2bdev/code-interpreter:latest"
ARCHIVE = ROOT / "packaging" / "images" / "archive.py"


def cache() -> Path:
    """Where archives are kept."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "appliance"
    found = Path(os.environ.get("APPLIANCE_CACHE") or base) / "images"
    found.mkdir(parents=True, exist_ok=True)
    return found


def busybox(name: str = PAUSE_IMAGE, command: tuple[str, ...] = ("/bin/sleep", "infinity")) -> Path:
    """A few megabytes with every busybox applet, which sleep by default. Raises ``RuntimeError`` without busybox."""
    program = shutil.which("busybox")
    if program is None:
        raise RuntimeError("busybox is needed (Debian: apt-get install busybox-static)")
    recipe = hashlib.sha256(f"{name} {command} {ARCHIVE.read_text()}".encode()).hexdigest()[:16]
    target = cache() / f"busybox-{recipe}.tar"
    if target.exists():
        return target
    layer = target.with_suffix(f".{os.getpid()}.layer")
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(layer, "w") as tar:
        for directory, mode in (("bin", 0o755), ("tmp", 0o1777), ("etc", 0o755)):
            info = tarfile.TarInfo(directory)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)
        whole = Path(program).resolve().read_bytes()
        info = tarfile.TarInfo("bin/busybox")
        info.size, info.mode = len(whole), 0o755
        tar.addfile(info, io.BytesIO(whole))
        for applet in sorted(set(applets) - {"busybox"}):
            info = tarfile.TarInfo(f"bin/{applet}")
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, "busybox", 0o777
            tar.addfile(info)
    settings = json.dumps({"Cmd": list(command), "Env": ["PATH=/bin"]})
    subprocess.run([sys.executable, ARCHIVE, name, layer, target, settings], check=True)
    layer.unlink()
    return target


def sandbox() -> Path:
    """The code-interpreter image (``packaging/images/code-interpreter.sh``)."""
    script = ROOT / "packaging" / "images" / "code-interpreter.sh"
    done = subprocess.run([script, SANDBOX], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


def appliance(target: Path) -> Path:
    """The product's image: the archive ``APPLIANCE_TEST_IMAGE``, or one built into ``target``.

    Raises ``RuntimeError`` without a single file to build it from.
    """
    if built := os.environ.get("APPLIANCE_TEST_IMAGE"):
        return Path(built)
    pyz = Path(os.environ.get("APPLIANCE_TEST_PYZ") or ROOT / "dist" / "appliance.pyz")
    if not pyz.exists():
        raise RuntimeError(f"{pyz} does not exist: packaging/build.sh makes it")
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "APPLIANCE_PYZ")}
    command = [sys.executable, str(pyz), "image", "build", "-o", str(target)]
    subprocess.run(command, env=clean, check=True, stdout=subprocess.DEVNULL)
    return target
