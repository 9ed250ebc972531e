"""Which box and which cluster a command is about: the shared flags, and what they mean."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from appliance import __version__
from appliance.config import KubeSettings


def shared_flags(into: argparse.ArgumentParser) -> None:
    """``--data-dir`` and ``--kubeconfig`` of the whole program, with their defaults."""
    data_dir = os.environ.get("APPLIANCE_DATA_DIR", "/var/lib/appliance")
    into.add_argument(
        "--data-dir",
        type=Path,
        default=Path(data_dir),
        metavar="DIR",
        help=f"state, sockets and logs of the box ({data_dir})",
    )
    into.add_argument(
        "--kubeconfig",
        type=Path,
        default=None,
        metavar="FILE",
        help="cluster to use instead of the embedded one (for controller and manager: what KUBECONFIG names, "
        "else the pod's service account)",
    )


def box_flag(into: argparse.ArgumentParser) -> None:
    """``--data-dir`` behind a command's name; the program's own default holds when it is not given."""
    into.add_argument(
        "--data-dir",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="of the running box (see appliance --help)",
    )


def cluster_flag(into: argparse.ArgumentParser, otherwise: str = "KUBECONFIG, else ~/.kube/config") -> None:
    """``--kubeconfig`` behind a command's name; ``otherwise`` says which cluster it is without."""
    into.add_argument(
        "--kubeconfig", type=Path, default=argparse.SUPPRESS, metavar="FILE", help=f"the cluster ({otherwise})"
    )


def kube(options: argparse.Namespace, agent: str) -> KubeSettings:
    """``--kubeconfig``, else ``KUBECONFIG``, else the pod's service account."""
    path = options.kubeconfig or (Path(os.environ["KUBECONFIG"]) if os.environ.get("KUBECONFIG") else None)
    return KubeSettings(kubeconfig=path, user_agent=f"appliance-{agent}/{__version__}")


def not_running(data_dir: Path) -> str:
    """What to say when a command finds no box."""
    return f"no box is running on {data_dir}; start one with appliance --role=all (or name its --data-dir)"


def cluster_of(options: argparse.Namespace) -> KubeSettings:
    """``--kubeconfig``, else the running box. Raises ``RuntimeError`` when there is neither."""
    path = options.kubeconfig or options.data_dir / "kubeconfig"
    if not path.exists():
        raise RuntimeError(not_running(options.data_dir) if options.kubeconfig is None else f"{path}: no such file")
    return KubeSettings(kubeconfig=path, user_agent=f"appliance-cli/{__version__}")


def named_cluster(options: argparse.Namespace) -> KubeSettings:
    """``--kubeconfig``, else ``KUBECONFIG``, else ``~/.kube/config``. Raises ``RuntimeError`` when there is none."""
    known = options.kubeconfig or Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not any(Path(part).expanduser().is_file() for part in str(known).split(os.pathsep)):
        raise RuntimeError(f"{known}: no such file; name the cluster with --kubeconfig or KUBECONFIG")
    return KubeSettings(kubeconfig=known, user_agent=f"appliance-cli/{__version__}")


def cluster_call(call: Coroutine[Any, Any, None]) -> int:
    """Run ``call``; an error of the cluster becomes one line on standard error."""
    from appliance.kube.errors import KubeError

    try:
        asyncio.run(call)
    except KubeError as error:
        raise RuntimeError(str(error)) from error
    return 0
