"""``appliance image build``: an image archive of this program, made without Docker, registry, network or root.

Layers, from what changes least: loader, libc, libraries and certificates; the interpreter; the Python libraries; the
application. A new version of the application changes the last, a few hundred kilobytes.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from appliance import __version__
from appliance.api.labels import IMAGE_PROGRAM
from appliance.image import authorities, oci, tree
from appliance.image.bom import bill
from appliance.image.workplace import require_place, workplace

HOME = IMAGE_PROGRAM.rpartition("/")[0]
USER = 65532
AUTHORITIES = authorities.BUNDLE.rpartition("/")[0]
"""Where OpenSSL looks an authority up; see :mod:`authorities`."""
_SYSTEM = {
    "etc/passwd": f"root:x:0:0:root:/root:/sbin/nologin\nappliance:x:{USER}:{USER}:appliance:/tmp:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nappliance:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def command(output: Path, name: str | None, arch: str | None, say: Callable[[str], None]) -> int:
    """Build the archive at ``output``; ``name`` with tag, ``arch`` in the image's or the kernel's word.

    Raises:
        ValueError: not run from the single file, nowhere to write, or an architecture that cannot be built here.
        RuntimeError: the machine lacks a library.
        OSError: the archive cannot be written.
    """
    machine = platform.machine()
    native = oci.architecture(machine)
    if arch not in (None, machine, native):
        raise ValueError(
            f"--arch: {arch} cannot be built here: an image holds this machine's interpreter ({native}); "
            f"run the {arch} file on such a machine"
        )
    tag = name or f"docker.io/library/appliance:{__version__}"
    if ":" not in tag.rpartition("/")[2]:
        raise ValueError(f"--name: expected NAME:TAG, got {tag!r}")
    require_place(output)
    with workplace("appliance-image-") as work:
        target = work / "tree"
        target.mkdir()
        tree.build(site(), target, HOME)
        digest = oci.write(output, tag, _layers(target), _settings(), machine)
    say(f"{output}: {tag} {digest}, {output.stat().st_size / 1e6:.1f} MB")
    return 0


def site() -> Path:
    """The extracted libraries of the single file. Raises ``ValueError`` when the program runs from something else."""
    directory = Path(tree.__file__).parents[2]
    if not os.environ.get("APPLIANCE_PYZ", "").endswith(".pyz") or directory.name != "site-packages":
        raise ValueError("an image is built from the single file: run `appliance.pyz image build` (packaging/build.sh)")
    return directory


def _layers(target: Path) -> list[oci.Layer]:
    """Split the tree; ``build`` in the last layer identifies all of them, for those who copy the tree."""
    base = {**_files(target, "lib"), **{name: text.encode() for name, text in _SYSTEM.items()}}
    base |= {authorities.BUNDLE[1:]: (trusted := authorities.bundle()), "tmp": None}
    base |= {f"{AUTHORITIES[1:]}/{name}": pem for name, pem in authorities.hashed(trusted).items()}
    layers = [
        oci.layer(base, "loader, libc, libraries, certificates"),
        oci.layer({**_files(target, "python"), **_files(target, "bin")}, f"CPython {platform.python_version()}"),
        oci.layer(_files(target, "site"), "Python libraries"),
    ]
    (target / "sbom.cdx.json").write_bytes(bill(target))
    application = {**_files(target, "app")}
    for name in ("appliance", "appliance-runtime", "boot.py", "sbom.cdx.json"):
        application[f"{HOME[1:]}/{name}"] = target / name
    identity = "\n".join(layer.digest for layer in (*layers, oci.layer(application, "")))
    application[f"{HOME[1:]}/build"] = identity.encode()
    return [*layers, oci.layer(application, f"appliance {__version__}")]


def _files(target: Path, part: str) -> dict[str, Path | bytes | None]:
    return {f"{HOME[1:]}/{path.relative_to(target)}": path for path in (target / part).rglob("*") if path.is_file()}


def _settings() -> dict[str, object]:
    return {
        "Entrypoint": [IMAGE_PROGRAM],
        "User": f"{USER}:{USER}",
        "WorkingDir": "/tmp",
        "Env": [f"PATH={HOME}:{HOME}/bin:/usr/bin:/bin", f"SSL_CERT_DIR={AUTHORITIES}", "LANG=C.UTF-8", "HOME=/tmp"],
        "Labels": {
            "org.opencontainers.image.title": "appliance",
            "org.opencontainers.image.version": __version__,
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.base.name": "scratch",
            "org.opencontainers.image.description": "Code-execution sandboxes for AI agents; every role in one image",
            "io.appliance.python": ".".join(map(str, sys.version_info[:3])),
            "io.appliance.sbom": f"{HOME}/sbom.cdx.json",
        },
    }
