"""``appliance doctor``: what a machine or a cluster lacks for this program, and the command that mends it."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

from appliance.commands.targets import box_flag, cluster_flag, kube
from appliance.config import KubeSettings

PURPOSES = ("install", "controller", "manager")


def register(commands: Any) -> None:
    """Add the command."""
    doctor = commands.add_parser("doctor", help="what this machine or a cluster lacks, and the command that mends it")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.add_argument("--cluster-only", action="store_true", help="look at the cluster, not at this machine")
    doctor.add_argument("--machine-only", action="store_true", help="look at this machine, not at a cluster")
    doctor.add_argument(
        "--for", dest="purpose", choices=PURPOSES, default="install", help="whose permissions to look at (install)"
    )
    doctor.add_argument("--domain", default=argparse.SUPPRESS, metavar="NAME", help="look its names up")
    doctor.add_argument("--tls-cert", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="look at it")
    box_flag(doctor)
    cluster_flag(doctor)
    doctor.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from appliance.doctor.command import Request, run

    if options.cluster_only and options.machine_only:
        raise ValueError("--cluster-only and --machine-only exclude each other")
    request = Request(
        data_dir=options.data_dir.absolute(),
        listens=(options.listen, options.apiserver_listen),
        machine=not options.cluster_only,
        kube=None if options.machine_only else _cluster(options),
        purpose=options.purpose,
        domain=options.domain,
        tls_cert=options.tls_cert,
    )
    return asyncio.run(run(request, options.json, print))


def _cluster(options: argparse.Namespace) -> KubeSettings | None:
    """The named cluster, the pod's own, the current one, or the running box; None when there is none of them."""
    if options.kubeconfig or os.environ.get("KUBECONFIG") or os.environ.get("KUBERNETES_SERVICE_HOST"):
        return kube(options, "doctor")
    for path in (options.data_dir / "kubeconfig", Path.home() / ".kube" / "config"):
        if os.access(path, os.R_OK):
            return KubeSettings(kubeconfig=path, user_agent="appliance-doctor")
    if options.cluster_only:
        raise RuntimeError("no cluster to look at; name one with --kubeconfig or KUBECONFIG")
    return None
