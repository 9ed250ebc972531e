"""The flags of the roles, grouped as ``appliance --help`` shows them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from appliance.commands.parsing import count


def role_flags(into: argparse.ArgumentParser) -> None:
    """The flags of all roles, grouped."""
    box = into.add_argument_group("one machine (--role=all)")
    box.add_argument("--pool", type=count, default=0, metavar="N", help="apply a default pool of N warm sandboxes (0)")
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
    box.add_argument(
        "--resolv-conf",
        type=Path,
        default=Path("/etc/resolv.conf"),
        metavar="FILE",
        help="the sandboxes' name servers (/etc/resolv.conf)",
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
    gateway.add_argument(
        "--leave",
        type=count,
        default=0,
        metavar="SECONDS",
        help="--role=manager: go on serving so long after SIGTERM, telling every client to connect anew (0)",
    )
    controller = into.add_argument_group("--role=controller")
    controller.add_argument("--no-leader-election", action="store_true", help="reconcile without holding the Lease")
    controller.add_argument("--webhook-listen", metavar="HOST:PORT", help="TLS: asked before pods are deleted (off)")
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
    tui.add_argument(
        "--web",
        nargs="?",
        const="127.0.0.1:8090",
        metavar="HOST:PORT",
        help="the same screen in a browser, behind a token that is printed once (127.0.0.1:8090)",
    )
    tui.add_argument("--web-sessions", type=count, default=4, metavar="N", help="browsers at a time with --web (4)")
