"""The command line: one program, a role chosen by ``--role`` or a subcommand for the person at the terminal.

The flags of the roles and the subcommands are in ``appliance/commands/``, one module per topic. Only argparse and the
standard library are imported before the choice is known; each role's modules are imported by the function that runs it
(see ``tests/unit/test_import_hygiene.py``). Exit codes: 0 done, 1 failed (one line on standard
error says why), 2 unusable arguments (with the nearest known flag).
"""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence

from appliance import __version__
from appliance.api.labels import WORKSPACE_ENV
from appliance.box.children import die_with_parent
from appliance.commands import MODULES, roles, targets
from appliance.commands.flags import role_flags
from appliance.commands.parsing import Parser

DESCRIPTION = """\
A complete cloud of code-execution sandboxes for AI agents, in one program.

  appliance --role=all                 run everything on this machine (needs root; see --isolation)
  eval "$(appliance env)"              point the E2B SDKs and kubectl of this shell at it
  appliance apply -f sandboxset.yaml   make a warm pool
  appliance status                     what is running, and what is wrong

On Kubernetes the same file runs as --role=controller and --role=manager, and --role=runtime inside sandboxes."""


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="appliance",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"appliance {__version__}")
    top.add_argument("--role", choices=list(roles.ROLES), metavar="ROLE", help=roles.summary())
    top.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"], help="default: info")
    targets.shared_flags(top)
    role_flags(top)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name in MODULES:
        importlib.import_module(f"appliance.commands.{name}").register(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments and WORKSPACE_ENV in os.environ and os.environ.get("APPLIANCE_PYZ", "").endswith("/boot.py"):
        arguments = ["inject"]  # our image as a sidecar of the seed's manifest, which gives it no arguments
    if "--role=runtime" in arguments or arguments[:2] == ["--role", "runtime"]:
        return roles.runtime(arguments)
    top = parser()
    options = top.parse_args(arguments)
    if options.role is None and options.command is None:
        top.print_help()
        return 2
    if options.role is not None and options.command is not None:
        top.error(f"--role={options.role} and the command {options.command!r} exclude each other")
    if options.role is None:
        gc.enable()  # a role does it once it has been imported
    die_with_parent()
    _log_to_stderr(options.log_level)
    run: Callable[[argparse.Namespace], int] = getattr(options, "run", None) or roles.RUNNERS[options.role]
    return _guarded(run, options)


def _guarded(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    from appliance.box.lock import AlreadyRunning

    try:
        return run(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except (AlreadyRunning, RuntimeError, OSError, ValueError) as error:
        if options.log_level == "debug":
            raise
        print(f"appliance: {_sentence(error)}", file=sys.stderr)
        return 1


def _sentence(error: Exception) -> str:
    """The error without the number that the system gives it: ``FILE: No such file or directory``."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )  # fmt: skip
