"""nftables text of one pod's egress policy: a chain of its own, reached through the map ``egress`` by address.

Pure. Allowed destinations return to the base chain, where what is closed to every pod stays closed; denied ones are
dropped there and then, also of connections that exist. Every script is one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, collapse_addresses

from appliance.api.egress import Egress

MAP = "egress"
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
"""Closed to every sandbox, whatever its policy (contract §1.12); name servers of the box excepted, port 53."""


def chain_of(address: str) -> str:
    """Name of the pod's chain."""
    return f"pod_{address.replace('.', '_')}"


def restrict(table: str, address: str, egress: Egress) -> str:
    """Put a policy in force, in place of an earlier one."""
    chain = chain_of(address)
    lines = [f"add chain inet {table} {chain}", f"flush chain inet {table} {chain}"]
    for networks, verdict in ((egress.allow, "return"), (egress.deny, "drop")):
        match = _match(networks)
        if match is not None:
            lines.append(f"add rule inet {table} {chain} {match}{verdict}")
    lines.append(f"add element inet {table} {MAP} {{ {address} : jump {chain} }}")
    return "\n".join(lines)


def release(table: str, address: str) -> str:
    """Take the policy of an address away, if there is one."""
    chain = chain_of(address)
    add = f"add element inet {table} {MAP} {{ {address} : jump {chain} }}"  # so that deleting it cannot fail
    delete = f"delete element inet {table} {MAP} {{ {address} : jump {chain} }}"
    made, gone = f"add chain inet {table} {chain}", f"delete chain inet {table} {chain}"
    return "\n".join([made, add, delete, f"flush chain inet {table} {chain}", gone])


def _match(networks: Iterable[str]) -> str | None:
    """The condition of a rule; None when it could never be true."""
    found = list(collapse_addresses(IPv4Network(one) for one in networks))
    if not found:
        return None
    if found[0].prefixlen == 0:
        return ""
    return f"ip daddr {{ {', '.join(map(str, found))} }} "
