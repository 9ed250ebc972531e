"""Links, addresses and routes through rtnetlink, without starting ``ip``: a sandbox's network costs about a
millisecond.

A ``Netlink`` socket belongs to the network namespace it was opened in and stays there when its process moves on,
which is how the template's child, already inside its new namespace, creates the pair on the box's bridge.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address, IPv4Interface

_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE = 16, 17, 20, 24
_REQUEST, _ACK, _EXCL, _CREATE, _REPLACE = 1, 4, 0x200, 0x400, 0x100
_IFF_UP = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_INFO_KIND, _INFO_DATA, _SLAVE_KIND, _SLAVE_DATA, _VETH_PEER, _BRPORT_ISOLATED = 1, 2, 4, 5, 1, 33
_NESTED = 0x8000
_IFA_ADDRESS, _IFA_LOCAL, _RTA_OIF, _RTA_GATEWAY = 1, 2, 4, 5
_ERROR = 2


def _attr(kind: int, data: bytes) -> bytes:
    size = 4 + len(data)
    return struct.pack("HH", size, kind) + data + b"\0" * (-size % 4)


def _name(name: str) -> bytes:
    return _attr(_IFLA_IFNAME, name.encode() + b"\0")


def _ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("BxHiII", 0, 0, index, flags, change)


class Netlink:
    """One rtnetlink socket in the namespace current at construction. Use as a context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._socket.settimeout(5.0)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _call(self, kind: int, flags: int, body: bytes, what: str) -> None:
        self._sequence += 1
        header = struct.pack("IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, self._sequence, 0)
        self._socket.send(header + body)
        reply = self._socket.recv(8192)
        _, answer, _, _, _ = struct.unpack_from("IHHII", reply)
        if answer != _ERROR:
            raise OSError(71, f"{what}: unexpected netlink answer {answer}")
        (code,) = struct.unpack_from("i", reply, 16)
        if code:
            raise OSError(-code, f"{what}: {os.strerror(-code)}")

    def add_bridge(self, name: str, *, mtu: int) -> None:
        """Create a bridge; ``FileExistsError`` when the name is taken."""
        info = _attr(_IFLA_LINKINFO | _NESTED, _attr(_INFO_KIND, b"bridge"))
        body = _ifinfo() + _name(name) + _attr(_IFLA_MTU, struct.pack("I", mtu)) + info
        self._call(_NEWLINK, _CREATE | _EXCL, body, f"add bridge {name}")

    def add_veth(self, name: str, *, peer: str, peer_netns: int, master: int, mtu: int, mac: bytes) -> None:
        """Create a pair: ``name`` up on the bridge with index ``master``, ``peer`` in the namespace ``peer_netns``."""
        size = _attr(_IFLA_MTU, struct.pack("I", mtu))
        inside = _ifinfo() + _name(peer) + size + _attr(_IFLA_ADDRESS, mac)
        inside += _attr(_IFLA_NET_NS_FD, struct.pack("I", peer_netns))
        data = _attr(_INFO_DATA | _NESTED, _attr(_VETH_PEER | _NESTED, inside))
        info = _attr(_IFLA_LINKINFO | _NESTED, _attr(_INFO_KIND, b"veth") + data)
        body = _ifinfo(0, _IFF_UP, _IFF_UP) + _name(name) + size + _attr(_IFLA_MASTER, struct.pack("I", master))
        self._call(_NEWLINK, _CREATE | _EXCL, body + info, f"add veth {name}")

    def isolate_port(self, name: str) -> None:
        """Forbid bridge traffic between this port and other isolated ones."""
        slave = _attr(_SLAVE_KIND, b"bridge") + _attr(_SLAVE_DATA | _NESTED, _attr(_BRPORT_ISOLATED, b"\1"))
        self._call(_NEWLINK, 0, _ifinfo() + _name(name) + _attr(_IFLA_LINKINFO | _NESTED, slave), f"isolate {name}")

    def up(self, index: int) -> None:
        """Set a link up."""
        self._call(_NEWLINK, 0, _ifinfo(index, _IFF_UP, _IFF_UP), f"set link {index} up")

    def delete(self, index: int) -> None:
        """Delete a link."""
        self._call(_DELLINK, 0, _ifinfo(index), f"delete link {index}")

    def add_address(self, index: int, address: IPv4Interface) -> None:
        """Give a link an address; one it has already is fine."""
        packed = address.ip.packed
        body = struct.pack("BBBBi", socket.AF_INET, address.network.prefixlen, 0, 0, index)
        body += _attr(_IFA_LOCAL, packed) + _attr(_IFA_ADDRESS, packed)
        self._call(_NEWADDR, _CREATE | _REPLACE, body, f"add address {address}")

    def add_default_route(self, index: int, gateway: IPv4Address) -> None:
        """The namespace's default route."""
        body = struct.pack("BBBBBBBBI", socket.AF_INET, 0, 0, 0, 254, 3, 0, 1, 0)
        body += _attr(_RTA_GATEWAY, gateway.packed) + _attr(_RTA_OIF, struct.pack("i", index))
        self._call(_NEWROUTE, _CREATE | _EXCL, body, f"add default route {gateway}")
