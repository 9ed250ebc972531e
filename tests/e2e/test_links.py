"""Links that exist already: a pod's new link gets a name that is free, and remainders of our own do not stay.

Real links, in a network namespace of their own.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = [pytest.mark.box, pytest.mark.timeout(120)]


def inside(program: str) -> list[str]:
    """What a program prints in a new network namespace with two bridges, ``br0`` and ``other``, by line."""
    script = textwrap.dedent("""
        import os, socket
        from appliance.embedded.node import network, podnet
        from appliance.embedded.node.netlink import Netlink
        from appliance.embedded.node.request import Network

        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        box = Netlink()
        box.add_bridge("br0", mtu=1500)
        box.add_bridge("other", mtu=1500)

        def link(name, bridge):
            master = socket.if_nametoindex(bridge)
            mac = bytes((2, 0, 0, 0, 0, 1))
            box.add_veth(name, peer=f"p-{name}", peer_netns=here, master=master, mtu=1500, mac=mac)

        def names():
            return sorted(name for _, name in socket.if_nameindex())

        pod = Network("10.0.0.16/16", "10.0.0.1", "br0", "ap1.0.1")
    """)
    command = ["unshare", "--net", "--mount", "sh", "-c", 'mount -t sysfs s /sys && exec "$0" -c "$1"', sys.executable]
    whole = script + textwrap.dedent(program)
    done = subprocess.run([*command, whole], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_remainder_of_our_own_link_is_replaced() -> None:
    """A link on our bridge whose pod has ended has the name: it goes, and the new one gets it."""
    free, left = inside("""
        link("ap1.0.1", "br0")
        print(podnet.free_name(box, pod))
        print("ap1.0.1" in names())
    """)
    assert (free, left) == ("ap1.0.1", "False")


def test_another_boxs_link_keeps_its_name() -> None:
    """A link of somebody else has the name: it stays, and the new link gets a longer one that the kernel takes."""
    free, left = inside("""
        link("ap1.0.1", "other")
        print(podnet.free_name(box, pod))
        print("ap1.0.1" in names())
    """)
    assert free.startswith("ap1.0.1.") and len(free) <= 15
    assert left == "True"


def test_a_bridge_goes_with_its_links() -> None:
    """Links that the kernel still keeps go with the bridge, those of another bridge stay; a missing bridge is fine."""
    (left,) = inside("""
        link("ap1.0.1", "br0")
        link("ap1.1.1", "br0")
        link("ap2.0.1", "other")
        network.remove_bridge("br0")
        network.remove_bridge("br0")
        print(*(name for name in names() if name.startswith(("ap", "br", "other"))))
    """)
    assert left == "ap2.0.1 other"
