"""Writes a bundle: this very file, its image, the chart, and archives of sandbox images that were named."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from appliance import __version__
from appliance.bundle.contents import LIST, SUMS, Contents, Entry
from appliance.image.archive import verify
from appliance.image.build import command as build_image
from appliance.image.build import site
from appliance.image.workplace import require_place, workplace
from appliance.install import chart

PROGRAM, IMAGE, CHART = "appliance.pyz", "images/appliance.tar", f"chart/appliance-{__version__}.tgz"
README = f"""\
This is a bundle of appliance {__version__}: everything an installation needs, for machines without internet.

  tar -xf BUNDLE appliance.pyz          the program; needs Python 3.11 to 3.14 and nothing else
  ./appliance.pyz bundle verify BUNDLE  checks every member (or: tar -xf BUNDLE && sha256sum -c SHA256SUMS)
  ./appliance.pyz bundle load BUNDLE    brings the images to this machine's containerd, Docker, kind or box
  ./appliance.pyz --role=all            a box on this machine
  ./appliance.pyz install --apply       onto the cluster of the current kubeconfig
"""


def pack(output: Path, images: Sequence[Path], say: Callable[[str], None]) -> None:
    """Write the bundle at ``output``; the same file, chart and images give the same bytes.

    Raises:
        ValueError: not run from the single file, nowhere to write, or what is in ``images`` is no image archive; named.
        OSError: something cannot be read or written.
    """
    site()  # refuses early what is not the single file
    require_place(output)
    names = [verify(path) for path in images]
    if clash := {path.name for path in images if sum(other.name == path.name for other in images) > 1}:
        raise ValueError(f"--image: two archives are called {', '.join(sorted(clash))}")
    with workplace("appliance-bundle-") as directory:
        shutil.copyfile(os.environ["APPLIANCE_PYZ"], directory / PROGRAM)
        (directory / "README").write_text(README)
        _write_chart(directory / CHART)
        (directory / "images").mkdir()
        build_image(directory / IMAGE, None, None, say)
        members: list[tuple[str, str, Path, tuple[str, ...]]] = [("README", "text", directory / "README", ())]
        members.append((PROGRAM, "program", directory / PROGRAM, ()))
        members.append((CHART, "chart", directory / CHART, ()))
        members.append((IMAGE, "image", directory / IMAGE, tuple(verify(directory / IMAGE))))
        for path, inside in zip(images, names, strict=True):
            members.append((f"images/sandbox/{path.name}", "sandbox-image", path, tuple(inside)))
        _write(output, [(_entry(name, kind, path, inside), path) for name, kind, path, inside in members])
    say(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {len(images)} sandbox images")


def _entry(name: str, kind: str, path: Path, images: tuple[str, ...]) -> Entry:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Entry(name, kind, path.stat().st_size, digest, images)


def _write(output: Path, members: list[tuple[Entry, Path]]) -> None:
    contents = Contents(__version__, tuple(entry for entry, _ in members))
    fresh = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory() as work, tarfile.open(fresh, "w", format=tarfile.GNU_FORMAT) as tar:
            for name, data in ((LIST, contents.encode()), (SUMS, contents.sums())):
                (Path(work) / SUMS).write_bytes(data)
                _add(tar, name, Path(work) / SUMS, 0o644)
            for entry, path in members:
                _add(tar, entry.name, path, 0o755 if entry.kind == "program" else 0o644)
        fresh.replace(output)
    finally:
        fresh.unlink(missing_ok=True)


def _add(tar: tarfile.TarFile, name: str, path: Path, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uname, info.gname = path.stat().st_size, mode, "root", "root"
    with path.open("rb") as stream:
        tar.addfile(info, stream)


def _write_chart(target: Path) -> None:
    """The chart as ``helm install`` takes it: a .tgz with one folder, the same bytes each time."""
    import gzip
    import io

    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, contents in sorted(chart.files().items()):
            info = tarfile.TarInfo(f"appliance/{name}")
            info.size, info.mode = len(contents.encode()), 0o644
            tar.addfile(info, io.BytesIO(contents.encode()))
    target.parent.mkdir(parents=True)
    target.write_bytes(gzip.compress(raw.getvalue(), mtime=0))
