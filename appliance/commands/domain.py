"""``appliance domain``: authority, wildcard certificate and resolver for sandboxes under a name of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from appliance.commands.targets import box_flag


def register(commands: Any) -> None:
    """Add the command."""
    domain = commands.add_parser(
        "domain",
        help="a certificate for NAME and *.NAME, and how clients find and trust it",
        description="Makes a local authority and a certificate for NAME and *.NAME below the data directory, or checks "
        "yours, and prints what remains to be done: DNS, trust, and the box's flags. Running it again is harmless; "
        "a certificate is renewed thirty days before its end.",
    )
    domain.add_argument(
        "name", metavar="NAME[:PORT]", help="such as sbx.test or sbx.test:8443; the port clients use (443)"
    )
    domain.add_argument(
        "--tls-cert", type=Path, default=None, metavar="FILE", help="check this certificate (PEM) instead of making one"
    )
    domain.add_argument("--tls-key", type=Path, default=None, metavar="FILE", help="its private key (PEM)")
    domain.add_argument("--address", metavar="IP", help="where clients reach the box (this machine's address)")
    domain.add_argument(
        "--dns-listen", default=None, metavar="HOST:PORT", help="also answer the names by DNS (UDP) until Ctrl-C"
    )
    box_flag(domain)
    domain.set_defaults(run=_domain)


def _domain(options: argparse.Namespace) -> int:
    from appliance.api.address import parse_domain
    from appliance.box.domain import Wish, run

    wish = Wish(
        domain=parse_domain(options.name, "NAME"),
        data_dir=options.data_dir.absolute(),
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        address=options.address,
        dns_listen=options.dns_listen,
    )
    return run(wish, lambda text: print(text, flush=True))
