"""``--role``: the roles, and how each one's settings are made of the flags in ``flags``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from appliance.api.address import parse_address, parse_domain
from appliance.box.children import PARENT_VARIABLE, program
from appliance.commands.targets import kube
from appliance.config import (
    ApiServerSettings,
    BoxSettings,
    ControllerSettings,
    GatewaySettings,
    ManagerSettings,
    NodeSettings,
)

ROLES = {
    "all": "everything on one machine: embedded cluster, controller and manager, supervised",
    "controller": "reconciles Sandbox, SandboxSet and SandboxClaim objects of a cluster",
    "manager": "the E2B API and the gateway that carries sandbox traffic",
    "runtime": "inside a sandbox: processes, files and run_code (started by the pod, not by hand)",
    "apiserver": "the embedded Kubernetes API (started by --role=all)",
    "node": "the embedded node agent that runs pods as isolated processes (started by --role=all)",
    "tui": "a live terminal screen for pools, claims and sandboxes; needs nothing but a kubeconfig, or the box",
}


def summary() -> str:
    """One line for ``--role``."""
    return "; ".join(f"{name}: {text}" for name, text in ROLES.items())


def gateway(options: argparse.Namespace) -> GatewaySettings:
    """Settings of the public socket. Raises ``ValueError`` naming the flag."""
    if bool(options.tls_cert) != bool(options.tls_key):
        raise ValueError("--tls-cert and --tls-key belong together: give both or neither")
    for flag in ("listen", "tls_listen", "dns_listen"):
        if (given := getattr(options, flag)) is not None:
            parse_address(given, f"--{flag.replace('_', '-')}")
    if options.domain is not None:
        parse_domain(options.domain, "--domain")
    return GatewaySettings(
        listen=options.listen,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        tls_listen=options.tls_listen,
        leave_time=float(options.leave),
    )


def _settle() -> None:
    """The role is imported: what that made stays for good, and from here on garbage is collected.

    The single file and the image start with the collector off (see ``boot.py``), which saves a fifth of the start.
    """
    gc.freeze()
    gc.enable()


def heed_sigterm() -> None:
    """SIGTERM ends a role also while it is being imported, as the first process of its container, for which a signal
    without a handler is dropped: the kubelet would wait its thirty seconds. ``until_told`` takes the signal over.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))


def _serve(role: Coroutine[Any, Any, None]) -> int:
    asyncio.run(until_told(role))
    return 0


def _serve_cluster(role: Coroutine[Any, Any, None]) -> int:
    """The same for a role that needs a cluster. Raises ``RuntimeError`` when none is named, or not usably."""
    from appliance.kube.errors import ConfigError

    try:
        return _serve(role)
    except ConfigError as error:
        raise RuntimeError(str(error)) from error


async def until_told(role: Coroutine[Any, Any, None]) -> None:
    """Cancel a role on SIGTERM, which the first process of a container otherwise ignores. Roles that end in an order
    of their own take the signal over.
    """
    told = asyncio.Event()
    work = asyncio.ensure_future(role)

    def tell() -> None:
        told.set()
        work.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tell)
    try:
        await work
    except asyncio.CancelledError:
        if not told.is_set():
            raise


def _all(options: argparse.Namespace) -> int:
    from appliance.box.main import run

    _settle()
    if options.isolation == "namespaces" and options.kubeconfig is None:
        from appliance.embedded.node.preflight import privileges

        privileges()  # the node would refuse too, but only after half the box has been started
    settings = BoxSettings(
        data_dir=options.data_dir.absolute(),
        apiserver_listen=options.apiserver_listen,
        kubeconfig=options.kubeconfig,
        isolation=options.isolation,
        gateway=gateway(options),
        domain=options.domain,
        dns_listen=options.dns_listen,
        resolv_conf=options.resolv_conf.absolute(),
    )
    if options.dns_listen and not options.domain:
        raise ValueError("--dns-listen answers the names of --domain: give both")
    return asyncio.run(run(settings, replicas=options.pool))


def _apiserver(options: argparse.Namespace) -> int:
    from appliance.embedded.apiserver.main import run

    _settle()
    tls = options.data_dir / "tls"
    settings = ApiServerSettings(data_dir=options.data_dir, listen=options.apiserver_listen)
    if (tls / "server.crt").exists():
        settings = replace(settings, tls_cert=tls / "server.crt", tls_key=tls / "server.key")
    return _serve(run(settings))


def _node(options: argparse.Namespace) -> int:
    from appliance.embedded.node.main import run

    _settle()
    kubeconfig = options.data_dir / "run" / "node.kubeconfig"
    settings = NodeSettings(
        data_dir=options.data_dir,
        kubeconfig=kubeconfig,
        isolation=options.isolation,
        resolv_conf=options.resolv_conf,
    )
    return _serve(run(settings))


def _controller(options: argparse.Namespace) -> int:
    heed_sigterm()
    from appliance.controller.main import run

    _settle()
    settings = ControllerSettings(
        kube=kube(options, "controller"),
        leader_election=not options.no_leader_election,
        runtime_image=os.environ.get("APPLIANCE_RUNTIME_IMAGE"),
        webhook_listen=options.webhook_listen,
        controller_user=os.environ.get("SANDBOX_CONTROLLER_USERNAME") or ControllerSettings.controller_user,
    )
    return _serve_cluster(run(settings))


def _manager(options: argparse.Namespace) -> int:
    heed_sigterm()
    from appliance.manager.main import run

    _settle()
    settings = ManagerSettings(kube=kube(options, "manager"), gateway=gateway(options), domain=options.domain)
    run_dir, key = options.data_dir / "run", options.data_dir / "api-key"
    if run_dir.is_dir():
        settings = replace(
            settings, control_socket=run_dir / "manager.sock", initial_key_file=key if key.exists() else None
        )
    if options.api_key_file is not None:
        settings = replace(settings, initial_key_file=options.api_key_file)
    return _serve_cluster(run(settings))


def _tui(options: argparse.Namespace) -> int:
    """The box that is running here unless another cluster is named; KUBECONFIG when there is no box."""
    from tui.main import run
    from tui.settings import TuiSettings

    _settle()
    box = options.data_dir / "kubeconfig"
    if options.kubeconfig is None and os.access(box, os.R_OK):
        options.kubeconfig = box
    settings = TuiSettings(
        kube=kube(options, "tui"),
        namespace=options.namespace,
        readonly=options.readonly,
        once=options.once,
        record=options.record,
        replay=options.replay,
        no_color=options.no_color,
        web=_web(options) if options.web else None,
    )
    return run(settings)


def _web(options: argparse.Namespace) -> Any:
    """``--web``: every visitor gets a process of this program with the same options. Raises ValueError."""
    from tui.settings import WebSettings

    for flag, given in (("--once", options.once), ("--record", options.record)):
        if given is not None:
            raise ValueError(f"--web: cannot be combined with {flag}")
    web = parse_address(options.web, "--web")
    if options.web_sessions < 1:
        raise ValueError("--web-sessions: expected at least 1")
    words = ["--role=tui", "--data-dir", str(options.data_dir)]
    for flag, value in (("--kubeconfig", options.kubeconfig), ("--namespace", options.namespace)):
        words += [flag, str(value)] if value is not None else []
    words += ["--replay", str(options.replay)] if options.replay is not None else []
    words += ["--readonly"] if options.readonly else []
    words += ["--no-color"] if options.no_color else []
    return WebSettings(
        host=web.host or "0.0.0.0",
        port=web.port,
        sessions=options.web_sessions,
        command=(*program(), *words),
        environment={PARENT_VARIABLE: str(os.getpid())},
    )


def runtime(arguments: list[str]) -> int:
    """The runtime parses its own arguments: it must not pay for anything above."""
    from appliance.runtime.main import main as run

    _settle()
    skip = 1 if "--role=runtime" in arguments else 2
    rest = [word for word in arguments if word != "--role=runtime"] if skip == 1 else arguments[2:]
    return run(rest)


RUNNERS: dict[str, Callable[[argparse.Namespace], int]] = {
    "all": _all,
    "apiserver": _apiserver,
    "node": _node,
    "controller": _controller,
    "manager": _manager,
    "tui": _tui,
}
