"""What sandboxes may reach, through the SDK on a real box; hosts in a network namespace stand for the internet."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from typing import Any

import pytest
from boxes import RunningBox
from e2b import Sandbox
from e2b.exceptions import SandboxException
from outside import outside

pytestmark = pytest.mark.box
ONE, TWO, PRIVATE = "198.51.100.10", "203.0.113.20", "192.168.213.30"
TEMPLATE = "code-interpreter"


@pytest.fixture(scope="module")
def hosts(box: RunningBox) -> Iterator[None]:
    """Two public hosts and one with a private address, beyond the box."""
    number = os.getpid() % 64
    with outside([ONE, TWO, PRIVATE], IPv4Network((f"198.18.7.{number * 4}", 30))):
        yield


def options(box: RunningBox) -> dict[str, Any]:
    """How the SDK reaches the box."""
    return {
        "api_key": box.env["E2B_API_KEY"],
        "api_url": box.env["E2B_API_URL"],
        "sandbox_url": box.env["E2B_SANDBOX_URL"],
        "timeout": 60,
    }


def reached(sandbox: Sandbox) -> set[str]:
    """Which of the hosts answer."""
    tries = " & ".join(f"curl -s --connect-timeout 2 -m 30 http://{host}/" for host in (ONE, TWO, PRIVATE))
    said = sandbox.commands.run(f"({tries} & wait) || true").stdout
    return {line.removeprefix("you reached ") for line in said.splitlines() if line}


def test_public_hosts_are_open_private_ones_closed_and_lists_decide(box: RunningBox, hosts: None) -> None:
    """Open by default; denied by address or CIDR; allowing beats denying; updates apply at once; a pause keeps them."""
    with Sandbox.create(TEMPLATE, **options(box)) as sandbox:
        assert reached(sandbox) == {ONE, TWO}
        sandbox.update_network({"deny_out": [TWO]})
        assert reached(sandbox) == {ONE}
        sandbox.update_network({"allow_out": ["203.0.113.0/24"], "deny_out": ["0.0.0.0/0"]})
        assert reached(sandbox) == {TWO}
        sandbox.pause()
        sandbox.connect(timeout=60)
        assert reached(sandbox) == {TWO}
        sandbox.update_network({})
        assert reached(sandbox) == {ONE, TWO}


def test_a_sandbox_is_never_handed_out_before_its_network_is_cut(box: RunningBox, hosts: None) -> None:
    """With options at the creation the first command finds them in force, and get_info tells them."""
    with Sandbox.create(TEMPLATE, allow_internet_access=False, **options(box)) as sandbox:
        assert reached(sandbox) == set()
        assert sandbox.get_info().allow_internet_access is False
    with Sandbox.create(TEMPLATE, network={"allow_out": ["192.168.0.0/16", PRIVATE]}, **options(box)) as sandbox:
        assert reached(sandbox) == {ONE, TWO}  # private networks may be named and stay closed
    lists = {"allow_out": [ONE], "deny_out": ["0.0.0.0/0"]}
    with Sandbox.create(TEMPLATE, network=lists, **options(box)) as sandbox:
        assert reached(sandbox) == {ONE}


def test_what_cannot_be_enforced_is_refused(box: RunningBox) -> None:
    """A domain to deny, private name servers, an egress proxy: a 400 that names it; nothing pretends to filter."""
    for network, named in (
        ({"deny_out": ["example.com"]}, r"denyOut.*example\.com"),
        ({"dns_servers": ["10.0.0.1"]}, "dnsServers.*private"),
        ({"egress_proxy": {"address": "proxy.test:1080"}}, "egressProxy"),
    ):
        with pytest.raises(SandboxException, match=f"400.*{named}"):
            Sandbox.create(TEMPLATE, network=network, **options(box))


def test_a_policy_outlives_the_node_agent(start_box: Callable[..., RunningBox], hosts: None) -> None:
    """Killed, away and back: the sandbox stays closed throughout, and its address is open again for the next one."""
    own = start_box(pool=1)
    sandbox = Sandbox.create(TEMPLATE, network={"deny_out": [ONE]}, **options(own))
    assert reached(sandbox) == {TWO}
    node = own.role_pid("node")
    os.kill(node, signal.SIGKILL)
    assert reached(sandbox) == {TWO}
    own.role_pid("node", other_than=node)
    assert reached(sandbox) == {TWO}
    with Sandbox.create(TEMPLATE, **options(own)) as other:
        assert reached(other) == {ONE, TWO}
    sandbox.update_network({})
    assert reached(sandbox) == {ONE, TWO}
    sandbox.kill()
