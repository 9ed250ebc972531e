"""``appliance bundle``: everything for an installation without internet, in one file; its check; its images loaded."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from appliance.commands.targets import box_flag

VERBS = ("verify", "load")


def register(commands: Any) -> None:
    """Add the command; ``bundle verify FILE`` and ``bundle load FILE`` are its verbs, without one it packs."""
    bundle = commands.add_parser(
        "bundle",
        help="pack this file, its image, the chart and sandbox images into one file; verify and load such a file",
        usage="appliance bundle [-o FILE] [--image ARCHIVE]…\n       appliance bundle verify FILE\n"
        "       appliance bundle load FILE [--into PLACE]",
    )
    bundle.add_argument("verb", nargs="?", choices=VERBS, metavar="VERB", help="verify or load; without: pack")
    bundle.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the bundle to verify or load")
    bundle.add_argument(
        "-o", "--output", type=Path, default=Path("bundle.tar"), metavar="FILE", help="where to write (bundle.tar)"
    )
    bundle.add_argument(
        "--image", action="append", type=Path, metavar="ARCHIVE", help="a sandbox image to pack (docker save); repeat"
    )
    bundle.add_argument(
        "--into", metavar="PLACE", help="load: containerd, docker, kind or box (the one that this machine has)"
    )
    bundle.add_argument(
        "--containerd", metavar="SOCKET", help="where containerd listens (/run/containerd/containerd.sock)"
    )
    bundle.add_argument("--kind-cluster", default="kind", metavar="NAME", help="name of the kind cluster (kind)")
    box_flag(bundle)
    bundle.set_defaults(run=_bundle)


def _bundle(options: argparse.Namespace) -> int:
    if options.verb is None:
        from appliance.bundle.pack import pack

        pack(options.output, options.image or [], print)
        return 0
    if options.file is None:
        raise ValueError(f"bundle {options.verb}: name the bundle's FILE")
    return _verify(options.file) if options.verb == "verify" else _load(options)


def _verify(file: Path) -> int:
    from appliance.bundle.contents import check

    contents = check(file)
    for entry in contents.entries:
        print(f"{entry.sha256[:12]} {entry.size:>12} {entry.kind:<13} {entry.name} {' '.join(entry.images)}".rstrip())
    print(f"{file}: whole; appliance {contents.version}")
    return 0


def _load(options: argparse.Namespace) -> int:
    from appliance.bundle.load import PLACES, Where, guessed, load

    place = options.into or guessed(options.data_dir)
    if place not in PLACES:
        raise ValueError(f"--into: expected one of {', '.join(PLACES)}, got {place!r}")
    address = {"address": options.containerd} if options.containerd else {}
    load(options.file, Where(place=place, data_dir=options.data_dir, cluster=options.kind_cluster, **address), print)
    return 0
