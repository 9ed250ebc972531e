"""``appliance image``: archives loaded by the embedded node, and the image of this program; ``appliance inject``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from appliance.commands.parsing import Parser
from appliance.commands.targets import box_flag


def register(commands: Any) -> None:
    """Add ``image`` with its verbs, and ``inject``."""
    image = commands.add_parser("image", help="images of the embedded node")
    verbs = image.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    load = verbs.add_parser("load", help="load an OCI or Docker archive")
    load.add_argument("archive", type=Path, metavar="ARCHIVE", help="such as docker save writes")
    load.set_defaults(run=_image_load)
    box_flag(load)
    build = verbs.add_parser("build", help="write an OCI archive of this program (no Docker, registry or root needed)")
    build.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("appliance.tar"),
        metavar="FILE",
        help="where to write (appliance.tar)",
    )
    build.add_argument("--name", metavar="NAME:TAG", help="the image's name (docker.io/library/appliance:VERSION)")
    build.add_argument("--arch", metavar="ARCH", help="this machine's; another one is refused")
    build.set_defaults(run=_image_build)
    inject = commands.add_parser("inject", help="in a sidecar: place the runtime in $AGENT_RUNTIME_WORKSPACE and wait")
    inject.add_argument("--check", action="store_true", help="only say by the exit code whether it is placed")
    inject.add_argument("--await", dest="wait", action="store_true", help="end when somebody else has placed it")
    inject.add_argument("--once", action="store_true", help="end when it is placed, as an init container has to")
    inject.set_defaults(run=_inject)


def _image_build(options: argparse.Namespace) -> int:
    from appliance.image.build import command

    return command(options.output, options.name, options.arch, print)


def _inject(options: argparse.Namespace) -> int:
    from appliance.image.place import run

    return run(options.check, options.once, options.wait)


def _image_load(options: argparse.Namespace) -> int:
    from appliance.embedded.node.images import load_command

    return load_command(options.data_dir, options.archive)
