"""Brings the images of a bundle, once it is found whole, to where they are needed.

``containerd`` and ``kind`` take all of them, for a node; so does ``docker``. ``box`` takes the sandbox images only:
a box runs this program itself. Each image is handed to the program that knows the place; what that says is shown.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.bundle.contents import Contents, Entry, check, opened, read
from appliance.image.workplace import workplace

PLACES = ("containerd", "docker", "kind", "box")


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where the images go."""

    place: str
    """One of ``PLACES``."""
    data_dir: Path
    """Of the box."""
    address: str = "/run/containerd/containerd.sock"
    """Socket of containerd."""
    namespace: str = "k8s.io"
    """containerd's namespace that the kubelet looks into."""
    cluster: str = "kind"
    """Name of the kind cluster."""


def load(bundle: Path, where: Where, say: Callable[[str], None]) -> Contents:
    """Check the bundle, then load its images.

    Raises:
        BadBundle: names the file and the member that is wrong; nothing was loaded.
        RuntimeError: the place's program is missing or refuses an image; named.
        OSError: something cannot be read or written.
    """
    _program(where)
    contents = check(bundle)
    wanted = contents.of_kind("sandbox-image") if where.place == "box" else None
    entries = wanted if wanted is not None else [*contents.of_kind("image"), *contents.of_kind("sandbox-image")]
    if not entries:
        say("the bundle holds no sandbox images; a box needs none of the others")
    for entry in entries:
        with workplace("appliance-load-") as work:
            _hand_over(_extracted(bundle, entry, work), where)
        say(f"{where.place}: {', '.join(entry.images) or entry.name}")
    return contents


def guessed(data_dir: Path) -> str:
    """The place that this machine has. Raises ``RuntimeError`` when none or several are here."""
    found = [name for name, path in (("containerd", Path(Where.address)), ("docker", _DOCKER)) if path.exists()]
    if (data_dir / "kubeconfig").exists():
        found.append("box")
    if len(found) != 1:
        what = "none of containerd, docker or a box was found" if not found else f"{' and '.join(found)} are here"
        raise RuntimeError(f"--into: {what}; say which: {', '.join(PLACES)}")
    return found[0]


_DOCKER = Path("/var/run/docker.sock")


def _extracted(bundle: Path, entry: Entry, work: Path) -> Path:
    target = work / Path(entry.name).name
    with opened(bundle) as tar:
        read(tar)
        stream = tar.extractfile(entry.name)
        assert stream is not None
        with target.open("wb") as out:
            shutil.copyfileobj(stream, out)
    return target


def _hand_over(archive: Path, where: Where) -> None:
    if where.place == "box":
        from appliance.embedded.node.images import Library

        Library(where.data_dir / "node" / "images").load(archive)
        return
    done = subprocess.run(
        [*_program(where), str(archive)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise RuntimeError(f"{where.place}: {said[-1]}")


def _program(where: Where) -> list[str]:
    """The command that takes an archive as its last word."""
    if where.place == "box":
        return []
    commands = {
        "containerd": ["ctr", "--address", where.address, "--namespace", where.namespace, "images", "import"],
        "docker": ["docker", "load", "--input"],
        "kind": ["kind", "load", "image-archive", "--name", where.cluster],
    }
    command = commands[where.place]
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"--into={where.place}: the program {command[0]} is not in PATH")
    return command
