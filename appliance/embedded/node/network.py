"""The node's side of the pod network: the bridge, the filter rules, forwarding; all of it ours by name, all removed
again.

Pods reach the outside by masquerading and nothing else: not the box (only answers to what the box asked), not each
other (bridge port isolation, and a rule), not private networks, among them the link-local metadata service. The map
``egress`` leads to the policies of single pods, the map ``names`` to the filter of those whose policy has domains or
header rules; they stay in force while an agent is away or replaced. Whatever a pod's policy, port 80 of ``EVENTS`` is
the events service of its own runtime (``eventrelay.py``). Only our own nft table is written; the box's other rules stay
as they are. Two nodes on one box get different bridges and networks: a node makes its bridge, named after its data
directory, under a lock of the box, so that two that start at once cannot choose the same one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from appliance.api.egress import PRIVATE, Egress
from appliance.embedded.filter.control import Ports
from appliance.embedded.node import egress_rules
from appliance.embedded.node.netlink import Netlink
from appliance.embedded.node.request import Network

log = logging.getLogger(__name__)
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_INSTANCES = 16
EVENTS, EVENTS_HOST = "192.0.2.1", "events.e2b.local"
"""Where programs in a sandbox of the original service find its events service, and the name in their /etc/hosts."""
EVENTS_PORT = 49981
"""Port of the runtime inside the pod to which it leads."""


@dataclass(slots=True)
class PodNetwork:
    """One node's network."""

    bridge: str
    cidr: IPv4Network
    number: int
    """Which of the nodes on this box."""
    state: Path
    """File that remembers the number and the box's own value of ip_forward."""
    mtu: int
    _restricted: set[str] = field(default_factory=set)
    """Addresses that have a policy."""

    @property
    def gateway(self) -> IPv4Address:
        """The box's address on the bridge."""
        return self.cidr[1]

    @classmethod
    def claim(cls, bridge: str, cidr: str, data_dir: Path) -> PodNetwork:
        """The number whose bridge is ours already, else the first that is free or of a data directory that is gone.

        Ours comes first: after a ``kill -9`` its sandboxes still live on it, while a lower number may have become free.
        Raises ``OSError``.

        To be called, and followed by ``make_bridge``, under ``box_lock``.
        """
        base, state = bridge.rstrip("0123456789") or bridge, data_dir / "node" / "network.json"
        first = IPv4Network(cidr)
        for number in sorted(range(_INSTANCES), key=lambda number: _alias(f"{base}{number}") != str(data_dir)):
            name = f"{base}{number}"
            alias = _alias(name)
            if alias is not None and alias != str(data_dir) and Path(alias or "/").exists():
                continue
            network = IPv4Network((int(first.network_address) + number * first.num_addresses, first.prefixlen))
            return cls(name, network, number, state, _box_mtu())
        raise OSError(17, f"network: {base}0 to {base}{_INSTANCES - 1} all belong to other nodes on this box")

    def make_bridge(self) -> None:
        """The bridge, marked as ours; of a node whose directory is gone, policies and links go. Raises ``OSError``."""
        if _alias(self.bridge) != str(self.state.parent.parent):
            _nft(f"add table inet {self.bridge}\ndelete table inet {self.bridge}")
            remove_bridge(self.bridge)
        with Netlink() as netlink, suppress(FileExistsError):
            netlink.add_bridge(self.bridge, mtu=self.mtu)
        Path(f"/sys/class/net/{self.bridge}/ifalias").write_text(str(self.state.parent.parent))

    def set_up(self, resolvers: Iterable[str] = ()) -> None:
        """Address, rules and forwarding, from scratch or over what a dead agent left. Raises ``OSError``.

        ``resolvers``: name servers that pods may ask although they have private addresses.
        """
        with Netlink() as netlink:
            index = socket.if_nametoindex(self.bridge)
            netlink.add_address(index, IPv4Interface((self.gateway, self.cidr.prefixlen)))
            netlink.up(index)
        if not self.state.exists():
            self.state.write_text(json.dumps({"ip_forward": _FORWARD.read_text().strip()}))
        _FORWARD.write_text("1")
        _nft(self._rules(resolvers))
        self._restricted = self._known()

    def _known(self) -> set[str]:
        """Addresses with a policy, of this agent or one before it."""
        text = _run_nft("-j", "list", "map", "inet", self.bridge, egress_rules.MAP)
        entries = [entry["map"] for entry in json.loads(text)["nftables"] if "map" in entry]
        return {str(element[0]) for entry in entries for element in entry.get("elem", [])}

    def _rules(self, resolvers: Iterable[str]) -> str:
        """The base chains anew; the map and the pods' chains stay as they are. One transaction."""
        name = self.bridge
        names = [str(one) for one in map(_ipv4, resolvers) if one is not None]
        ask = f'iifname "{name}" ip daddr {{ {", ".join(names)} }} meta l4proto {{ tcp, udp }} th dport 53 accept'
        return f"""
            add table inet {name}
            add map inet {name} {egress_rules.MAP} {{ type ipv4_addr : verdict; }}
            add map inet {name} {egress_rules.NAMES} {{ type ipv4_addr : verdict; }}
            add chain inet {name} {egress_rules.REDIRECTS}
            add chain inet {name} {egress_rules.WEB}
            add chain inet {name} {egress_rules.ENTRIES}
            add chain inet {name} {egress_rules.EVENTS}
            add chain inet {name} {egress_rules.EVENT_ENTRIES}
            add chain inet {name} prerouting {{ type nat hook prerouting priority -100; policy accept; }}
            add chain inet {name} input {{ type filter hook input priority -10; policy accept; }}
            add chain inet {name} forward {{ type filter hook forward priority -10; policy accept; }}
            add chain inet {name} postrouting {{ type nat hook postrouting priority 100; policy accept; }}
            flush chain inet {name} prerouting
            flush chain inet {name} input
            flush chain inet {name} forward
            flush chain inet {name} postrouting
            table inet {name} {{
                chain prerouting {{
                    iifname "{name}" ip daddr {EVENTS} tcp dport 80 goto {egress_rules.EVENTS}
                    iifname "{name}" ip saddr vmap @{egress_rules.NAMES}
                }}
                chain input {{
                    iifname "{name}" ct state established,related accept
                    iifname "{name}" jump {egress_rules.ENTRIES}
                    iifname "{name}" jump {egress_rules.EVENT_ENTRIES}
                    iifname "{name}" drop
                }}
                chain forward {{
                    iifname "{name}" oifname "{name}" drop
                    iifname "{name}" ip saddr != {self.cidr} drop
                    iifname "{name}" ip saddr vmap @{egress_rules.MAP}
                    {ask if names else ""}
                    iifname "{name}" ip daddr {{ {", ".join(PRIVATE)} }} drop
                    oifname "{name}" ct state established,related accept
                    oifname "{name}" drop
                }}
                chain postrouting {{
                    ip saddr {self.cidr} oifname != "{name}" masquerade
                }}
            }}
        """

    def restrict(self, address: str, egress: Egress) -> None:
        """Put a pod's policy in force, or take it away when it is open. Raises ``OSError``."""
        if egress:
            _nft(egress_rules.restrict(self.bridge, address, egress))
            self._restricted.add(address)
        elif address in self._restricted:
            _nft(egress_rules.release(self.bridge, address))
            self._restricted.discard(address)

    def lead(self, ports: Ports) -> None:
        """Tell the firewall where the filter listens. Raises ``OSError``."""
        _nft(egress_rules.lead(self.bridge, ports))

    def lead_events(self, port: int) -> None:
        """Tell the firewall where the relay to the pods' events services listens. Raises ``OSError``."""
        _nft(egress_rules.lead_events(self.bridge, port))

    def pod(self, slot: int, generation: int) -> Network:
        """Address and link of the pod in ``slot``."""
        address = self.cidr[slot + 16]
        veth = f"ap{self.number:x}.{slot:x}.{generation % 4096:x}"
        return Network(f"{address}/{self.cidr.prefixlen}", str(self.gateway), self.bridge, veth, self.mtu)

    def tear_down(self) -> None:
        """Remove everything, and give ip_forward its old value when nobody else needs it."""
        with suppress(OSError):
            _nft(f"add table inet {self.bridge}\ndelete table inet {self.bridge}")
        with suppress(OSError):
            remove_bridge(self.bridge)
        with suppress(OSError, ValueError, KeyError):
            before = json.loads(self.state.read_text())["ip_forward"]
            if not any(_alias(f"{self.bridge.rstrip('0123456789')}{n}") is not None for n in range(_INSTANCES)):
                _FORWARD.write_text(before)
            self.state.unlink()


@contextmanager
def box_lock() -> Iterator[None]:
    """Held while a node chooses its bridge and makes it; leaves no file, and is released with the process."""
    directory = os.open("/run", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def remove_bridge(bridge: str) -> None:
    """Delete a bridge, if there is one, and its ports, which the kernel would keep until their namespaces are gone.

    Raises ``OSError``.
    """
    ports = Path(f"/sys/class/net/{bridge}/brif")
    with Netlink() as netlink:
        for link in (*(sorted(os.listdir(ports)) if ports.is_dir() else ()), bridge):
            try:
                index = socket.if_nametoindex(link)
            except OSError:
                continue
            try:
                netlink.delete(index)
            except OSError as error:
                if error.errno != errno.ENODEV:  # gone meanwhile
                    raise


def _ipv4(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None


def _alias(link: str) -> str | None:
    try:
        return Path(f"/sys/class/net/{link}/ifalias").read_text().strip()
    except OSError:
        return None


def _box_mtu() -> int:
    """The smallest MTU of the links a packet may leave by, so that pods never send what does not fit."""
    found = [1500]
    with suppress(OSError):
        for line in Path("/proc/net/route").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1] == "00000000":
                found.append(int(Path(f"/sys/class/net/{fields[0]}/mtu").read_text()))
    return min(found)


def _nft(rules: str) -> None:
    """Carry out a script, as one transaction. Raises ``OSError``."""
    _run_nft("-f", "-", rules=rules)


def _run_nft(*arguments: str, rules: str = "") -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    done = subprocess.run(
        ["nft", *arguments],
        input=rules,
        text=True,
        capture_output=True,
        check=False,
        timeout=20,
        env={"PATH": path},
    )
    if done.returncode:
        raise OSError(1, f"nft: {done.stderr.strip()[:500]}")
    return done.stdout
