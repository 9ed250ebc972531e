"""A pod's network namespace, made and configured by the first process of its first container.

The namespace belongs to the box's user namespace: root inside the sandbox has no power over it, so it cannot change
its address, open raw sockets or load filter rules. Ports below 1024 and ping are opened to everybody inside by
sysctl.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

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
_TRIES = 8


def enter_new(network: Network) -> None:
    """Move the process into a new namespace and connect it to the bridge. Raises ``OSError``."""
    with Netlink() as box:
        master = socket.if_nametoindex(network.bridge)
        link = free_name(box, network)
        syscalls.unshare(syscalls.CLONE_NEWNET)
        for name, value in _SYSCTLS.items():
            with suppress(OSError), open(f"/proc/sys/{name}", "w") as file:  # absent without IPv6
                file.write(value)
        address = IPv4Interface(network.address)
        netns = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            mac = b"\x0a\x58" + address.ip.packed
            box.add_veth(link, peer=INTERFACE, peer_netns=netns, master=master, mtu=network.mtu, mac=mac)
        finally:
            os.close(netns)
        box.isolate_port(link)
    _configure(address, IPv4Address(network.gateway))


def free_name(box: Netlink, network: Network) -> str:
    """The link's name, or a longer one where another box's link has it. Raises ``OSError`` when none is free.

    The kernel takes a link away some time after the last process of its namespace. One on our own bridge is such a
    remainder, since no two living pods of a node share a slot: it goes at once.
    """
    for name in (network.veth, *(f"{network.veth}.{os.urandom(1).hex()}" for _ in range(_TRIES))):
        try:
            index = socket.if_nametoindex(name)
        except OSError:
            return name
        if _master(name) == network.bridge:
            with suppress(OSError):  # the kernel was faster
                box.delete(index)
            return name
    raise OSError(errno.EEXIST, f"link {network.veth} and {_TRIES} names like it are taken by others on this box")


def _master(link: str) -> str:
    """The bridge that a link is a port of; empty for none."""
    try:
        return Path(f"/sys/class/net/{link}/master").readlink().name
    except OSError:
        return ""


def _configure(address: IPv4Interface, gateway: IPv4Address) -> None:
    with Netlink() as inside:
        inside.up(1)  # lo is always the first link
        index = socket.if_nametoindex(INTERFACE)
        inside.add_address(index, address)
        inside.up(index)
        inside.add_default_route(index, gateway)
