"""``appliance install``: the manifests for a Kubernetes cluster."""

from __future__ import annotations

import argparse
from typing import Any


def register(commands: Any) -> None:
    """Add the command."""
    install = commands.add_parser("install", help="print the manifests for a Kubernetes cluster, for kubectl")
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
