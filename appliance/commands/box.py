"""``appliance env``, ``kubeconfig``, ``status``, ``apply``: the running box, and objects on it or on any cluster."""

from __future__ import annotations

import argparse
from typing import Any

from appliance.commands.targets import box_flag, cluster_call, cluster_flag, cluster_of, not_running


def register(commands: Any) -> None:
    """Add the four commands."""
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
    for sub in (env, kubeconfig, status, apply):
        box_flag(sub)
    for sub in (status, apply):
        cluster_flag(sub, "the running box's")


def _env(options: argparse.Namespace) -> int:
    from appliance.box.main import environment

    try:
        print(environment(options.data_dir))
    except FileNotFoundError:
        raise RuntimeError(not_running(options.data_dir)) from None
    return 0


def _kubeconfig(options: argparse.Namespace) -> int:
    path = options.data_dir / "kubeconfig"
    if not path.exists():
        raise RuntimeError(not_running(options.data_dir))
    print(path)
    return 0


def _status(options: argparse.Namespace) -> int:
    from appliance.box.status import disk_shortage, report
    from appliance.kube.cluster import Cluster

    async def show() -> None:
        cluster = await Cluster.connect(cluster_of(options))
        try:
            print(await report(cluster))
            if options.kubeconfig is None and (shortage := disk_shortage(options.data_dir)):
                print(f"\n{shortage}")
        finally:
            await cluster.close()

    return cluster_call(show())


def _apply(options: argparse.Namespace) -> int:
    from appliance.box.apply import apply_files

    return cluster_call(apply_files(cluster_of(options), options.filename, print))
