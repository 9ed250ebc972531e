"""The command line: one program, a role chosen by ``--role`` or a subcommand for the person at the terminal.

Only argparse and the standard library are imported before the choice is known; each role's modules are imported by the
function that runs it (see ``tests/unit/test_import_hygiene.py``). Exit codes: 0 done, 1 failed (one line on standard
error says why), 2 unusable arguments (with the nearest known flag).
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance import __version__
from appliance.api.labels import WORKSPACE_ENV
from appliance.box.children import die_with_parent
from appliance.config import (
    ApiServerSettings,
    BoxSettings,
    ControllerSettings,
    GatewaySettings,
    KubeSettings,
    ManagerSettings,
    NodeSettings,
)

DESCRIPTION = """\
A complete cloud of code-execution sandboxes for AI agents, in one program.

  appliance --role=all                 run everything on this machine (needs root; see --isolation)
  eval "$(appliance env)"              point the E2B SDKs and kubectl of this shell at it
  appliance apply -f sandboxset.yaml   make a warm pool
  appliance status                     what is running, and what is wrong

On Kubernetes the same file runs as --role=controller and --role=manager, and --role=runtime inside sandboxes."""

ROLES = {
    "all": "everything on one machine: embedded cluster, controller and manager, supervised",
    "controller": "reconciles Sandbox, SandboxSet and SandboxClaim objects of a cluster",
    "manager": "the E2B API and the gateway that carries sandbox traffic",
    "runtime": "inside a sandbox: processes, files and run_code (started by the pod, not by hand)",
    "apiserver": "the embedded Kubernetes API (started by --role=all)",
    "node": "the embedded node agent that runs pods as isolated processes (started by --role=all)",
    "tui": "a live terminal screen for pools, claims and sandboxes; needs nothing but a kubeconfig, or the box",
}


class Parser(argparse.ArgumentParser):
    """An argument parser that answers an unknown flag with the nearest known one."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, refusing what is unknown by name: flags first, for a flag's value would be taken for a command."""
        flags = set(self._known_words())
        for word in sys.argv[1:] if args is None else args:
            if word.startswith("--") and word.split("=", 1)[0] not in flags:
                self.error(self._unknown(word))
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return known

    def _unknown(self, word: str) -> str:
        flag = word.split("=", 1)[0]
        near = difflib.get_close_matches(flag, self._known_words(), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else "; see appliance --help"
        return f"unknown argument {flag}{hint}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            near = difflib.get_close_matches(str(value), [str(choice) for choice in action.choices], n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else f"; expected one of {', '.join(map(str, action.choices))}"
            raise argparse.ArgumentError(action, f"unknown value {value!r}{hint}")

    def _known_words(self) -> list[str]:
        words = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, child in action.choices.items():
                    words += [name, *child._known_words()]
        return words


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="appliance",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"appliance {__version__}")
    top.add_argument("--role", choices=list(ROLES), metavar="ROLE", help=_role_help())
    top.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"], help="default: info")
    _shared_flags(top)
    _role_flags(top)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    _commands(commands)
    return top


def _role_help() -> str:
    return "; ".join(f"{name}: {text}" for name, text in ROLES.items())


def _shared_flags(into: argparse.ArgumentParser) -> None:
    data_dir = os.environ.get("APPLIANCE_DATA_DIR", "/var/lib/appliance")
    into.add_argument(
        "--data-dir",
        type=Path,
        default=Path(data_dir),
        metavar="DIR",
        help=f"state, sockets and logs of the box ({data_dir})",
    )
    kubeconfig = os.environ.get("KUBECONFIG")
    into.add_argument(
        "--kubeconfig",
        type=Path,
        default=None,
        metavar="FILE",
        help="cluster to use instead of the embedded one (for controller and manager: "
        f"KUBECONFIG={kubeconfig or 'unset'}, else the pod's service account)",
    )


def _role_flags(into: argparse.ArgumentParser) -> None:
    box = into.add_argument_group("one machine (--role=all)")
    box.add_argument("--pool", type=_count, default=0, metavar="N", help="apply a default pool of N warm sandboxes (0)")
    box.add_argument(
        "--isolation",
        choices=["namespaces", "process"],
        default="namespaces",
        help="namespaces: each sandbox has its own root, users, network and limits (needs root); "
        "process: plain child processes, isolates nothing",
    )
    box.add_argument(
        "--apiserver-listen", default="127.0.0.1:16443", metavar="HOST:PORT", help="embedded API (127.0.0.1:16443)"
    )
    gateway = into.add_argument_group("API and sandbox traffic (--role=all, --role=manager)")
    gateway.add_argument(
        "--listen",
        default=os.environ.get("APPLIANCE_LISTEN", "127.0.0.1:8080"),
        metavar="HOST:PORT",
        help="public address (127.0.0.1:8080, APPLIANCE_LISTEN)",
    )
    gateway.add_argument(
        "--tls-listen",
        metavar="HOST:PORT",
        help="a second address that speaks TLS, while --listen stays plain (with --domain and no certificate of your "
        "own, the box's authority makes one for NAME and *.NAME)",
    )
    gateway.add_argument(
        "--dns-listen",
        metavar="HOST:PORT",
        help="--role=all: a resolver that answers --domain and all below it, for a nameserver line in resolv.conf",
    )
    gateway.add_argument("--domain", default=os.environ.get("APPLIANCE_DOMAIN"), help="E2B domain given to clients")
    gateway.add_argument("--api-key-file", type=Path, metavar="FILE", help="--role=manager: the first API key")
    gateway.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM; turns TLS on")
    gateway.add_argument("--tls-key", type=Path, metavar="FILE", help="private key, PEM")
    controller = into.add_argument_group("--role=controller")
    controller.add_argument("--no-leader-election", action="store_true", help="reconcile without holding the Lease")
    _tui_flags(into.add_argument_group("--role=tui"))


def _tui_flags(tui: Any) -> None:
    tui.add_argument("--namespace", default=None, metavar="NAME", help="watch only this namespace (all)")
    tui.add_argument("--readonly", action="store_true", help="hide every action that changes the cluster")
    tui.add_argument(
        "--once",
        nargs="?",
        const="text",
        choices=["text", "json"],
        metavar="text|json",
        help="print the tables and end",
    )
    tui.add_argument("--record", type=Path, metavar="FILE", help="write every change to a file")
    tui.add_argument("--replay", type=Path, metavar="FILE", help="play such a file instead of watching a cluster")
    tui.add_argument("--no-color", action="store_true", help="no colours (NO_COLOR)")


def _commands(commands: Any) -> None:
    env = commands.add_parser("env", help="print the exports that point the E2B SDKs at the running box")
    env.set_defaults(run=_env)
    kubeconfig = commands.add_parser("kubeconfig", help="print the path of the running box's kubeconfig")
    kubeconfig.set_defaults(run=_kubeconfig)
    status = commands.add_parser("status", help="pools, sandboxes and nodes at a glance")
    status.set_defaults(run=_status)
    apply = commands.add_parser("apply", help="create or change objects from YAML files")
    apply.add_argument(
        "-f", "--filename", action="append", required=True, metavar="FILE", help="manifest; - is standard input"
    )
    apply.set_defaults(run=_apply)
    image = commands.add_parser("image", help="images of the embedded node")
    verbs = image.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    load = verbs.add_parser("load", help="load an OCI or Docker archive")
    load.add_argument("archive", type=Path, metavar="ARCHIVE")
    load.set_defaults(run=_image_load)
    build = verbs.add_parser("build", help="write an OCI archive of this program (no Docker, registry or root needed)")
    build.add_argument("-o", "--output", type=Path, default=Path("appliance.tar"), metavar="FILE", help="appliance.tar")
    build.add_argument("--name", metavar="NAME:TAG", help="docker.io/library/appliance:VERSION")
    build.add_argument("--arch", metavar="ARCH", help="refused unless it is this machine's")
    build.set_defaults(run=_image_build)
    _install_flags(commands.add_parser("install", help="print the manifests for a Kubernetes cluster, for kubectl"))
    inject = commands.add_parser("inject", help="in a sidecar: place the runtime in $AGENT_RUNTIME_WORKSPACE and wait")
    inject.add_argument("--check", action="store_true", help="only say by the exit code whether it is placed")
    inject.add_argument("--once", action="store_true", help="end when it is placed, as an init container has to")
    inject.set_defaults(run=_inject)
    for sub in (env, kubeconfig, status, apply, load):
        sub.add_argument("--data-dir", type=Path, default=argparse.SUPPRESS, metavar="DIR", help="of the running box")
    for sub in (status, apply):
        sub.add_argument("--kubeconfig", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="another cluster")


def _install_flags(install: argparse.ArgumentParser) -> None:
    install.add_argument("--image", required=True, metavar="NAME:TAG", help="as nodes have it (appliance image build)")
    install.add_argument("--domain", default=argparse.SUPPRESS, metavar="NAME", help="E2B domain given to clients")
    install.add_argument(
        "--api-key-secret", default="appliance-api-key", metavar="NAME", help="its api-key is the first"
    )
    install.add_argument("--tls-secret", metavar="NAME", help="of type kubernetes.io/tls; without it plain HTTP")
    install.add_argument("--managers", type=int, default=2, metavar="N", help="replicas (2)")
    install.add_argument("--controllers", type=int, default=2, metavar="N", help="replicas, one leads (2)")
    install.add_argument("--sandbox-namespace", action="append", metavar="NAME", help="of pools; repeat (default)")
    install.set_defaults(run=_install)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of sandboxes (0 or more)")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments and WORKSPACE_ENV in os.environ and os.environ.get("APPLIANCE_PYZ", "").endswith("/boot.py"):
        arguments = ["inject"]  # our image as a sidecar of the seed's manifest, which gives it no arguments
    if "--role=runtime" in arguments or arguments[:2] == ["--role", "runtime"]:
        return _runtime(arguments)
    top = parser()
    options = top.parse_args(arguments)
    if options.role is None and options.command is None:
        top.print_help()
        return 2
    if options.role is not None and options.command is not None:
        top.error(f"--role={options.role} and the command {options.command!r} exclude each other")
    die_with_parent()
    _log_to_stderr(options.log_level)
    run: Callable[[argparse.Namespace], int] = getattr(options, "run", None) or RUNNERS[options.role]
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
        print(f"appliance: {error}", file=sys.stderr)
        return 1


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )  # fmt: skip


def _kube(options: argparse.Namespace, agent: str) -> KubeSettings:
    path = options.kubeconfig or (Path(os.environ["KUBECONFIG"]) if os.environ.get("KUBECONFIG") else None)
    return KubeSettings(kubeconfig=path, user_agent=f"appliance-{agent}/{__version__}")


def _gateway(options: argparse.Namespace) -> GatewaySettings:
    if bool(options.tls_cert) != bool(options.tls_key):
        raise ValueError("--tls-cert and --tls-key belong together: give both or neither")
    for flag in ("listen", "tls_listen", "dns_listen"):
        host, _, port = (getattr(options, flag) or "-:0").rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"--{flag.replace('_', '-')}: {getattr(options, flag)!r} is not HOST:PORT")
    return GatewaySettings(
        listen=options.listen, tls_cert=options.tls_cert, tls_key=options.tls_key, tls_listen=options.tls_listen
    )


def _serve(role: Coroutine[Any, Any, None]) -> int:
    asyncio.run(role)
    return 0


def _all(options: argparse.Namespace) -> int:
    from appliance.box.main import run

    if options.isolation == "namespaces" and options.kubeconfig is None:
        from appliance.embedded.node.preflight import privileges

        privileges()  # the node would refuse too, but only after half the box has been started
    settings = BoxSettings(
        data_dir=options.data_dir.absolute(),
        apiserver_listen=options.apiserver_listen,
        kubeconfig=options.kubeconfig,
        isolation=options.isolation,
        gateway=_gateway(options),
        domain=options.domain,
        dns_listen=options.dns_listen,
    )
    if options.dns_listen and not options.domain:
        raise ValueError("--dns-listen answers the names of --domain: give both")
    return asyncio.run(run(settings, replicas=options.pool))


def _apiserver(options: argparse.Namespace) -> int:
    from appliance.embedded.apiserver.main import run

    tls = options.data_dir / "tls"
    settings = ApiServerSettings(data_dir=options.data_dir, listen=options.apiserver_listen)
    if (tls / "server.crt").exists():
        settings = replace(settings, tls_cert=tls / "server.crt", tls_key=tls / "server.key")
    return _serve(run(settings))


def _node(options: argparse.Namespace) -> int:
    from appliance.embedded.node.main import run

    kubeconfig = options.data_dir / "run" / "node.kubeconfig"
    return _serve(run(NodeSettings(data_dir=options.data_dir, kubeconfig=kubeconfig, isolation=options.isolation)))


def _controller(options: argparse.Namespace) -> int:
    from appliance.controller.main import run

    settings = ControllerSettings(
        kube=_kube(options, "controller"),
        leader_election=not options.no_leader_election,
        runtime_image=os.environ.get("APPLIANCE_RUNTIME_IMAGE"),
    )
    return _serve(run(settings))


def _manager(options: argparse.Namespace) -> int:
    from appliance.manager.main import run

    settings = ManagerSettings(kube=_kube(options, "manager"), gateway=_gateway(options), domain=options.domain)
    run_dir, key = options.data_dir / "run", options.data_dir / "api-key"
    if run_dir.is_dir():
        settings = replace(
            settings, control_socket=run_dir / "manager.sock", initial_key_file=key if key.exists() else None
        )
    if options.api_key_file is not None:
        settings = replace(settings, initial_key_file=options.api_key_file)
    return _serve(run(settings))


def _tui(options: argparse.Namespace) -> int:
    """The box that is running here unless another cluster is named; KUBECONFIG when there is no box."""
    from tui.main import run
    from tui.settings import TuiSettings

    box = options.data_dir / "kubeconfig"
    if options.kubeconfig is None and os.access(box, os.R_OK):
        options.kubeconfig = box
    settings = TuiSettings(
        kube=_kube(options, "tui"),
        namespace=options.namespace,
        readonly=options.readonly,
        once=options.once,
        record=options.record,
        replay=options.replay,
        no_color=options.no_color,
    )
    return run(settings)


def _runtime(arguments: list[str]) -> int:
    """The runtime parses its own arguments: it must not pay for anything above."""
    from appliance.runtime.main import main as runtime

    skip = 1 if "--role=runtime" in arguments else 2
    rest = [word for word in arguments if word != "--role=runtime"] if skip == 1 else arguments[2:]
    return runtime(rest)


def _env(options: argparse.Namespace) -> int:
    from appliance.box.main import environment

    try:
        print(environment(options.data_dir))
    except FileNotFoundError:
        raise RuntimeError(_not_running(options.data_dir)) from None
    return 0


def _not_running(data_dir: Path) -> str:
    return f"no box is running on {data_dir}; start one with appliance --role=all (or name its --data-dir)"


def _kubeconfig(options: argparse.Namespace) -> int:
    path = options.data_dir / "kubeconfig"
    if not path.exists():
        raise RuntimeError(_not_running(options.data_dir))
    print(path)
    return 0


def _cluster_of(options: argparse.Namespace) -> KubeSettings:
    path = options.kubeconfig or options.data_dir / "kubeconfig"
    if not path.exists():
        raise RuntimeError(_not_running(options.data_dir) if options.kubeconfig is None else f"{path}: no such file")
    return KubeSettings(kubeconfig=path, user_agent=f"appliance-cli/{__version__}")


def _status(options: argparse.Namespace) -> int:
    from appliance.box.status import disk_shortage, report
    from appliance.kube.cluster import Cluster

    async def show() -> None:
        cluster = await Cluster.connect(_cluster_of(options))
        try:
            print(await report(cluster))
            if options.kubeconfig is None and (shortage := disk_shortage(options.data_dir)):
                print(f"\n{shortage}")
        finally:
            await cluster.close()

    return _cluster_call(show())


def _apply(options: argparse.Namespace) -> int:
    from appliance.box.apply import apply_files

    return _cluster_call(apply_files(_cluster_of(options), options.filename, print))


def _cluster_call(call: Coroutine[Any, Any, None]) -> int:
    from appliance.kube.errors import KubeError

    try:
        asyncio.run(call)
    except KubeError as error:
        raise RuntimeError(str(error)) from error
    return 0


def _install(options: argparse.Namespace) -> int:
    from appliance.install.command import run
    from appliance.install.options import InstallOptions

    chosen = InstallOptions(
        image=options.image,
        domain=options.domain,
        api_key_secret=options.api_key_secret,
        tls_secret=options.tls_secret,
        managers=options.managers,
        controllers=options.controllers,
        sandbox_namespaces=tuple(options.sandbox_namespace or ["default"]),
    )
    return run(chosen, print)


def _image_build(options: argparse.Namespace) -> int:
    from appliance.image.build import command

    return command(options.output, options.name, options.arch, print)


def _inject(options: argparse.Namespace) -> int:
    from appliance.image.place import run

    return run(options.check, options.once)


def _image_load(options: argparse.Namespace) -> int:
    from appliance.embedded.node.images import load_command

    return load_command(options.data_dir, options.archive)


RUNNERS: dict[str, Callable[[argparse.Namespace], int]] = {
    "all": _all,
    "apiserver": _apiserver,
    "node": _node,
    "controller": _controller,
    "manager": _manager,
    "tui": _tui,
}
