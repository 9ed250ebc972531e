"""A pod's network namespace, made and configured by the first process of its first container.

The namespace belongs to the box's user namespace: root inside the sandbox has no power over it, so it cannot change
its address, open raw sockets or load filter rules. Ports below 1024 and ping are opened to everybody inside by
sysctl.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface

from appliance.embedded.node import syscalls
from appliance.embedded.node.netlink import Netlink
from appliance.embedded.node.request import Network

_SYSCTLS = {
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
    "net/ipv6/conf/default/disable_ipv6": "1",  # no router solicitations and duplicate detection per pod
    "net/ipv6/conf/default/accept_ra": "0",
}
INTERFACE = "eth0"


def enter_new(network: Network) -> None:
    """Move the process into a new namespace and connect it to the bridge. Raises ``OSError``."""
    with Netlink() as box:
        master = socket.if_nametoindex(network.bridge)
        syscalls.unshare(syscalls.CLONE_NEWNET)
        for name, value in _SYSCTLS.items():
            with suppress(OSError), open(f"/proc/sys/{name}", "w") as file:  # absent without IPv6
                file.write(value)
        address = IPv4Interface(network.address)
        netns = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            mac = b"\x0a\x58" + address.ip.packed
            box.add_veth(network.veth, peer=INTERFACE, peer_netns=netns, master=master, mtu=network.mtu, mac=mac)
        finally:
            os.close(netns)
        box.isolate_port(network.veth)
    _configure(address, IPv4Address(network.gateway))


def _configure(address: IPv4Interface, gateway: IPv4Address) -> None:
    with Netlink() as inside:
        inside.up(1)  # lo is always the first link
        index = socket.if_nametoindex(INTERFACE)
        inside.add_address(index, address)
        inside.up(index)
        inside.add_default_route(index, gateway)
