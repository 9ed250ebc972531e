"""nftables text of one pod's egress policy: chains of its own, reached through two maps by its address.

Pure. The chain in the map ``egress`` filters: allowed destinations return to the base chain, where what is closed to
every pod stays closed; denied ones are dropped there and then, also of connections that exist. The chain in the map
``names``, of a pod whose policy has domains, leads DNS and TCP ports 443 and 80 to the filter (``embedded/filter/``)
instead: all that its address rules do not allow anyway, DNS only if the policy leaves names to the box. With header
rules all of its ports 443 and 80 are led there, allowed or not, since the name decides. With no filter there the
packets go on and meet the first chain, which with domains denies everything. Every script is one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, collapse_addresses

from appliance.api.egress import PRIVATE, Egress
from appliance.embedded.filter.control import Ports

MAP, NAMES = "egress", "names"
REDIRECTS, WEB, ENTRIES = "redirects", "web", "entries"
"""Chains that lead to the filter's ports (DNS and web, or web alone) and let in what was led there, nothing else."""
EVENTS, EVENT_ENTRIES = "events", "event_entries"
"""The same for the relay to the events services."""


def chain_of(address: str) -> str:
    """Name of the pod's filtering chain."""
    return f"pod_{address.replace('.', '_')}"


def names_chain_of(address: str) -> str:
    """Name of the pod's redirecting chain."""
    return f"names_{address.replace('.', '_')}"


def restrict(table: str, address: str, egress: Egress) -> str:
    """Put a policy in force, in place of an earlier one."""
    chain = chain_of(address)
    lines = [f"add chain inet {table} {chain}", f"flush chain inet {table} {chain}"]
    for networks, verdict in ((egress.allow, "return"), (egress.deny, "drop")):
        match = _match(networks)
        if match is not None:
            lines.append(f"add rule inet {table} {chain} {match}{verdict}")
    lines.append(f"add element inet {table} {MAP} {{ {address} : jump {chain} }}")
    return "\n".join([*lines, _redirect(table, address, egress)])


def _redirect(table: str, address: str, egress: Egress) -> str:
    """Lead the pod's names to the filter, or no longer."""
    if not egress.domains and not egress.rules:
        return _forget(table, NAMES, address, names_chain_of(address))
    chain = names_chain_of(address)
    lines = [f"add chain inet {table} {chain}", f"flush chain inet {table} {chain}"]
    match = _match(egress.allow)
    if egress.rules:
        lines.append(f"add rule inet {table} {chain} jump {WEB}")
    if egress.domains and match is not None:
        lines.append(f"add rule inet {table} {chain} {match}return")
    if egress.domains and not egress.dns:
        lines.append(f"add rule inet {table} {chain} meta l4proto {{ tcp, udp }} th dport 53 return")
    if egress.domains:
        lines.append(f"add rule inet {table} {chain} goto {REDIRECTS}")
    lines.append(f"add element inet {table} {NAMES} {{ {address} : jump {chain} }}")
    return "\n".join(lines)


def release(table: str, address: str) -> str:
    """Take the policy of an address away, if there is one."""
    return "\n".join(
        [_forget(table, NAMES, address, names_chain_of(address)), _forget(table, MAP, address, chain_of(address))]
    )


def _forget(table: str, map_name: str, address: str, chain: str) -> str:
    add = f"add element inet {table} {map_name} {{ {address} : jump {chain} }}"  # so that deleting it cannot fail
    delete = f"delete element inet {table} {map_name} {{ {address} : jump {chain} }}"
    made, gone = f"add chain inet {table} {chain}", f"delete chain inet {table} {chain}"
    return "\n".join([made, add, delete, f"flush chain inet {table} {chain}", gone])


def lead(table: str, ports: Ports) -> str:
    """Name the filter's ports; private destinations are left to the base chain, which drops them."""
    private = ", ".join(PRIVATE)
    return f"""
        flush chain inet {table} {REDIRECTS}
        flush chain inet {table} {WEB}
        flush chain inet {table} {ENTRIES}
        add rule inet {table} {REDIRECTS} meta nfproto != ipv4 return
        add rule inet {table} {REDIRECTS} udp dport 53 redirect to :{ports.dns_udp}
        add rule inet {table} {REDIRECTS} tcp dport 53 redirect to :{ports.dns_tcp}
        add rule inet {table} {REDIRECTS} goto {WEB}
        add rule inet {table} {WEB} meta nfproto != ipv4 return
        add rule inet {table} {WEB} ip daddr {{ {private} }} return
        add rule inet {table} {WEB} tcp dport 443 redirect to :{ports.tls}
        add rule inet {table} {WEB} tcp dport 80 redirect to :{ports.http}
        add rule inet {table} {ENTRIES} ct status dnat udp dport {ports.dns_udp} accept
        add rule inet {table} {ENTRIES} ct status dnat tcp dport {{ {ports.tls}, {ports.http}, {ports.dns_tcp} }} accept
    """


def lead_events(table: str, port: int) -> str:
    """Name the relay's port."""
    return f"""
        flush chain inet {table} {EVENTS}
        flush chain inet {table} {EVENT_ENTRIES}
        add rule inet {table} {EVENTS} tcp dport 80 redirect to :{port}
        add rule inet {table} {EVENT_ENTRIES} ct status dnat tcp dport {port} accept
    """


def _match(networks: Iterable[str]) -> str | None:
    """The condition of a rule; None when it could never be true."""
    found = list(collapse_addresses(IPv4Network(one) for one in networks))
    if not found:
        return None
    if found[0].prefixlen == 0:
        return ""
    return f"ip daddr {{ {', '.join(map(str, found))} }} "
