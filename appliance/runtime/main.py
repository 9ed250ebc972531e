"""``appliance --role=runtime``: the runtime in a container that the embedded node did not make.

``serve`` is the foreground form: it supervises until SIGTERM, as the entry point of a container. ``start`` is the form
of a postStart hook: it puts the supervisor in the background, waits until it answers, then becomes the chained hook
(what follows ``--``) or exits 0. Flags override environment variables; both are named in the help.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from appliance.runtime import accounts, seal
from appliance.runtime.settings import RuntimeSettings

START_TIMEOUT: Final = 120.0
"""Seconds for the runtime to answer before ``start`` fails; a crowded node gives it a small share of a processor."""
_POLL: Final = 0.02


def main(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Run ``appliance --role=runtime ARGV``; returns the exit status where it returns at all."""
    own, chained = _split(list(argv))
    options = _parser().parse_args(own)
    settings = _settings(options, environ)
    if options.command == "serve":
        if chained:
            sys.stderr.write("runtime: serve takes no command after --; a main command belongs to the container\n")
            return 2
        return _serve(settings)
    return _start(settings, chained, options.log)


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="appliance --role=runtime", description=__doc__, allow_abbrev=False)
    parser.add_argument("command", choices=["start", "serve"], help="background (postStart hook) or foreground")
    parser.add_argument("--host", help="address to listen on (APPLIANCE_RUNTIME_HOST; default 0.0.0.0)")
    parser.add_argument("--user", help="user of requests that name none (APPLIANCE_RUNTIME_USER; default user)")
    parser.add_argument("--workdir", help="their directory (APPLIANCE_RUNTIME_WORKDIR; default: the user's home)")
    parser.add_argument("--no-interpreter", action="store_true", help="serve no code interpreter on 49999")
    parser.add_argument("--log", default="/tmp/appliance-runtime.log", help="log file of start (default %(default)s)")
    return parser


def _settings(options: argparse.Namespace, environ: Mapping[str, str]) -> RuntimeSettings:
    defaults = RuntimeSettings()
    system = {**defaults.system_env, **{k: v for k, v in environ.items() if k.startswith("E2B_")}}
    return RuntimeSettings(
        host=options.host or environ.get("APPLIANCE_RUNTIME_HOST") or defaults.host,
        default_user=options.user or environ.get("APPLIANCE_RUNTIME_USER") or defaults.default_user,
        default_workdir=options.workdir or environ.get("APPLIANCE_RUNTIME_WORKDIR") or defaults.default_workdir,
        path=environ.get("PATH") or defaults.path,
        system_env=system,
        interpreter=not options.no_interpreter,
        marker_root=Path("/"),
        seal_file=seal.place(environ),
    )


def _serve(settings: RuntimeSettings) -> int:
    from appliance.runtime import supervisor

    supervisor.run(settings, None)


def _start(settings: RuntimeSettings, chained: list[str], log: str) -> int:
    if not _healthy(settings):
        if "AGENT_RUNTIME_WORKSPACE" in os.environ:  # the hook of a container, not somebody's shell
            accounts.ensure(settings.default_user)
        if _background(settings, log):
            return 1
        deadline = time.monotonic() + START_TIMEOUT
        while not _healthy(settings):
            if time.monotonic() > deadline:
                sys.stderr.write(
                    f"runtime: no answer on port {settings.envd_port} after {START_TIMEOUT:.0f} s; see {log}\n"
                )
                return 1
            time.sleep(_POLL)
    if not chained:
        return 0
    try:
        os.execvp(chained[0], chained)
    except OSError as error:
        sys.stderr.write(f"runtime: {chained[0]}: {error.strerror}\n")
        return 127


def _background(settings: RuntimeSettings, log: str) -> int:
    """Leave a supervisor behind in a session of its own, its output in ``log``. Returns 1 when it cannot be opened."""
    try:
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        sys.stderr.write(f"runtime: --log {log}: {error.strerror}\n")
        return 1
    first = os.fork()
    if first:
        os.close(fd)
        os.waitpid(first, 0)
        return 0
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (fd, 1), (fd, 2)):
        os.dup2(source, target)
    _serve(settings)
    os._exit(70)


def _healthy(settings: RuntimeSettings) -> bool:
    import http.client  # here: ``serve`` never asks, and its time to the first answer is counted

    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
    connection = http.client.HTTPConnection(host, settings.envd_port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 204
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
