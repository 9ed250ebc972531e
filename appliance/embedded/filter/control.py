"""What agent and filter say to each other: lines of JSON on ``run/egress.sock``.

The filter speaks first (``Hello``); then every ``Set`` is answered by a ``Done`` once the policy is in force, existing
connections included. The socket lies in a directory of mode 0700: header rules, which are secret, go over it too.
"""

from __future__ import annotations

import msgspec

from appliance.api.egress import Egress
from appliance.api.header_rules import HeaderRules

PROTOCOL = 2
MAX_LINE = 4 * 1024 * 1024
"""Bytes of one line: both lists of a policy at their longest fit."""


class Ports(msgspec.Struct, frozen=True):
    """Where the filter listens on the bridge's address, for the firewall's redirects."""

    tls: int
    http: int
    dns_udp: int
    dns_tcp: int


class Hello(msgspec.Struct, frozen=True):
    """The filter's first line."""

    protocol: int
    build: str
    pid: int
    ports: Ports
    sandboxes: list[str]
    """Addresses it has policies for."""


class Set(msgspec.Struct, frozen=True):
    """The policy of one sandbox; None: forget it and reset its connections."""

    sandbox: str
    egress: Egress | None
    rules: HeaderRules | None = None


class Done(msgspec.Struct, frozen=True):
    """It is in force."""

    connections: int
    """Open in all, for the log and for tests."""
