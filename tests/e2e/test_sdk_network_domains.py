"""Domains in ``allowOut``, through the SDK on a real box; hosts in a network namespace stand for the internet.

The sandboxes of this box ask a name server of the test's, whose zone has a public, a private and a lying name.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from boxes import RunningBox, launch
from e2b import Sandbox
from e2b.exceptions import SandboxException
from outside import outside
from waiting import eventually

pytestmark = [pytest.mark.box, pytest.mark.timeout(240)]
ONE, TWO, DNS, PRIVATE = "198.51.100.10", "203.0.113.20", "198.51.100.53", "192.168.214.30"
NAMES = {
    "one.test": ONE,
    "www.one.test": ONE,
    "a.b.one.test": ONE,
    "alias.test": "one.test",
    "two.test": TWO,
    "nottwo.test": TWO,
    "private.test": PRIVATE,
    "loopback.test": "127.0.0.1",
    "box.test": "198.18.9.1",
}
TEMPLATE = "code-interpreter"
NOTHING_ELSE = ["0.0.0.0/0"]


@pytest.fixture(scope="module")
def own(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    """A box whose sandboxes ask the name server outside, with the hosts there."""
    directory = tmp_path_factory.mktemp("domains")
    resolv = directory / "resolv.conf"
    resolv.write_text(f"nameserver {DNS}\n")
    with outside([ONE, TWO, DNS, PRIVATE], IPv4Network("198.18.9.0/30"), names=NAMES, dns=DNS):
        running = launch(directory / "box", pool=2, extra=("--resolv-conf", str(resolv)))
        try:
            running.wait_ready()
            yield running
        finally:
            if running.process.poll() is None:
                running.stop()


def options(box: RunningBox) -> dict[str, Any]:
    """How the SDK reaches the box."""
    return {
        "api_key": box.env["E2B_API_KEY"],
        "api_url": box.env["E2B_API_URL"],
        "sandbox_url": box.env["E2B_SANDBOX_URL"],
        "timeout": 120,
    }


def sandbox_with(box: RunningBox, *allowed: str) -> Sandbox:
    """A sandbox that reaches ``allowed`` and nothing else."""
    return Sandbox.create(TEMPLATE, network={"allow_out": list(allowed), "deny_out": NOTHING_ELSE}, **options(box))


def fetch(sandbox: Sandbox, *curl: str, patience: int = 20) -> str:
    """What curl prints; empty when it fails, or has nothing after ``patience`` seconds."""
    command = " ".join(["curl", "-sk", "-m", str(patience), *curl])
    return sandbox.commands.run(f"{command} || true", timeout=60).stdout.strip()


def both(sandbox: Sandbox, name: str) -> tuple[str, str]:
    """What a name answers by HTTPS and by HTTP."""
    return fetch(sandbox, f"https://{name}/"), fetch(sandbox, f"http://{name}/")


def closed(sandbox: Sandbox, *curl: str) -> bool:
    """Whether nothing comes of it; packets that are dropped are waited for no longer than two seconds."""
    return fetch(sandbox, *curl, patience=2) == ""


def both_closed(sandbox: Sandbox, name: str) -> bool:
    """Whether nothing comes of a name on either port."""
    return closed(sandbox, f"https://{name}/") and closed(sandbox, f"http://{name}/")


def test_names_decide_on_both_ports(own: RunningBox) -> None:
    """Exact names, wildcards, any case and aliases pass; sub-domains of an exact name and other names do not."""
    reached = (f"you reached {ONE}",) * 2
    with sandbox_with(own, "One.TEST", "*.two.test", "alias.test") as sandbox:
        assert both(sandbox, "one.test") == reached
        assert both(sandbox, "ONE.test") == reached
        assert both(sandbox, "alias.test") == reached
        for other in ("www.one.test", "two.test", "nottwo.test"):
            assert both_closed(sandbox, other)
        told = f"{ONE} host=one.test sni=one.test"
        assert fetch(sandbox, "https://one.test/names") == told
    with sandbox_with(own, "*.one.test") as sandbox:
        assert both(sandbox, "www.one.test") == both(sandbox, "a.b.one.test") == reached
        assert both_closed(sandbox, "one.test")
    with sandbox_with(own, "*") as sandbox:
        assert both(sandbox, "two.test") == (f"you reached {TWO}",) * 2
        assert both_closed(sandbox, TWO)


def test_a_sandbox_cannot_lie_its_way_out(own: RunningBox) -> None:
    """A forged address leads to the named server; other names, addresses, ports, UDP and private names nowhere."""
    with sandbox_with(own, "one.test", "private.test", "loopback.test", "box.test") as sandbox:
        reached = f"you reached {ONE}"
        # The sandbox chooses the address and claims an allowed name: it gets the server of that name.
        assert fetch(sandbox, "--resolve", f"one.test:443:{TWO}", "https://one.test/") == reached
        assert fetch(sandbox, "--resolve", f"one.test:80:{TWO}", "http://one.test/") == reached
        assert fetch(sandbox, "-H", "Host:one.test", f"http://{TWO}/") == reached
        # It names what is not allowed, or nobody.
        assert closed(sandbox, "--resolve", f"two.test:443:{ONE}", "https://two.test/")
        assert closed(sandbox, "-H", "Host:two.test", "http://one.test/")
        assert both_closed(sandbox, ONE)
        assert closed(sandbox, "--http2-prior-knowledge", "http://one.test/")
        # A second request on the connection of an allowed name.
        twice = "printf 'GET / HTTP/1.1\\r\\nHost: one.test\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: two.test\\r\\n\\r\\n'"
        program = f"exec 3<>/dev/tcp/one.test/80; {twice} >&3; timeout 3 cat <&3"
        assert sandbox.commands.run(f'bash -c "{program}" || true').stdout.count("you reached") <= 1
        # Other ports and UDP follow the address rules, which deny everything.
        assert closed(sandbox, "http://one.test:8000/")
        assert udp(sandbox, ONE) == ""
        # Names of private addresses, of the box and of its loopback stay closed, however they are reached.
        for name in ("private.test", "loopback.test", "box.test"):
            assert both_closed(sandbox, name)
            assert closed(sandbox, "--resolve", f"{name}:443:{ONE}", f"https://{name}/")
        assert closed(sandbox, "--resolve", f"one.test:443:{PRIVATE}", "https://one.test/")


def udp(sandbox: Sandbox, address: str) -> str:
    """What the UDP echo at ``address`` answers."""
    program = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); "
        f"s.sendto(b'x', ('{address}', 9000)); print(s.recv(99).decode())"
    )
    return sandbox.commands.run(f'python3 -c "{program}" 2>/dev/null || true').stdout.strip()


def test_addresses_and_domains_together(own: RunningBox) -> None:
    """An allowed address is reached directly, on every port and by UDP, whatever it is called."""
    with sandbox_with(own, "one.test", TWO) as sandbox:
        assert both(sandbox, "one.test") == (f"you reached {ONE}",) * 2
        assert both(sandbox, TWO) == (f"you reached {TWO}",) * 2
        assert fetch(sandbox, "--resolve", f"any.test:443:{TWO}", "https://any.test/") == f"you reached {TWO}"
        assert fetch(sandbox, f"http://{TWO}:8000/") == udp(sandbox, TWO) == f"you reached {TWO}"
        assert closed(sandbox, f"http://{ONE}:8000/")
        assert udp(sandbox, ONE) == ""


LOOKUPS = """
import socket, struct, sys
def ask(server, name, kind=1, tcp=False):
    wire = b"".join(bytes([len(one)]) + one.encode() for one in name.split(".")) + b"\\0"
    packet = struct.pack("!HHHHHH", 7, 256, 1, 0, 0, 0) + wire + struct.pack("!HH", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        s.connect((server, 53))
        s.sendall(struct.pack("!H", len(packet)) + packet if tcp else packet)
        answer = s.recv(4096)[2 if tcp else 0:]
    code, count = answer[3] & 15, struct.unpack_from("!H", answer, 6)[0]
    return code, count, socket.inet_ntoa(answer[-4:]) if count else ""
for arguments in ([("8.8.8.8", "one.test"), ("8.8.8.8", "ONE.Test", 1, True), ("1.1.1.1", "two.test"),
                   ("8.8.8.8", "one.test", 28), ("8.8.8.8", "one.test", 65), ("8.8.8.8", "one.test", 16),
                   ("8.8.8.8", "secret-data.two.test"), ("192.168.214.30", "one.test"), ("8.8.8.8", "gone.one.test"),
                   ("8.8.8.8", "private.test")]):
    print(*ask(*arguments))
"""


def test_dns_is_open_for_allowed_names_only(own: RunningBox) -> None:
    """Whatever server it asks, by UDP or TCP: addresses of allowed names; REFUSED (5) for all else, AAAA empty."""
    with sandbox_with(own, "one.test", "*.one.test", "private.test") as sandbox:
        sandbox.files.write("/tmp/ask.py", LOOKUPS)
        said = sandbox.commands.run("python3 /tmp/ask.py").stdout.splitlines()
        found = f"0 1 {ONE}"
        assert [line.strip() for line in said] == [
            found, found, "5 0", "0 0", "0 0", "5 0", "5 0", found, "3 0", "0 0",
        ]  # fmt: skip


ASKED = """
import sys
for server in sys.argv[1:]:
    try:
        print(*ask(server, "two.test"))
    except TimeoutError:
        print("silent")
"""


def test_name_servers_of_ones_own_are_the_only_ones_that_answer(own: RunningBox) -> None:
    """With dns_servers the box answers nothing: those servers do, for every name; with an empty list nobody does."""
    network: dict[str, Any] = {"allow_out": ["one.test"], "deny_out": NOTHING_ELSE}
    with Sandbox.create(TEMPLATE, network={**network, "dns_servers": [DNS]}, **options(own)) as sandbox:
        assert sandbox.get_info().network["dns_servers"] == [DNS]
        sandbox.files.write("/tmp/ask.py", LOOKUPS.partition("for arguments")[0] + ASKED)
        for _ in range(2):
            assert sandbox.commands.run(f"python3 /tmp/ask.py {DNS} 8.8.8.8").stdout.split("\n")[:2] == [
                f"0 1 {TWO}", "silent",
            ]  # fmt: skip
            assert fetch(sandbox, f"http://{DNS}:8000/") == f"you reached {DNS}"
            assert both(sandbox, "one.test") == (f"you reached {ONE}",) * 2
            assert closed(sandbox, "https://two.test/")
            sandbox.pause()
            sandbox.connect(timeout=120)
        sandbox.update_network({**network, "dns_servers": []})
        assert sandbox.commands.run(f"python3 /tmp/ask.py {DNS} 8.8.8.8").stdout.split() == ["silent"] * 2
        assert fetch(sandbox, "--resolve", f"one.test:443:{TWO}", "https://one.test/") == f"you reached {ONE}"
        sandbox.update_network(network)
        assert both(sandbox, "one.test") == (f"you reached {ONE}",) * 2


def test_updates_are_in_force_when_the_call_returns(own: RunningBox) -> None:
    """Domains come, change and go while the sandbox runs, also for connections that exist; pauses keep them."""
    with Sandbox.create(TEMPLATE, **options(own)) as sandbox:
        assert both(sandbox, "two.test") == (f"you reached {TWO}",) * 2
        sandbox.update_network({"allow_out": ["one.test"], "deny_out": NOTHING_ELSE})
        assert both(sandbox, "one.test") == (f"you reached {ONE}",) * 2
        assert both_closed(sandbox, "two.test")
        slow = sandbox.commands.run("curl -sN http://one.test/slow", background=True, timeout=60)
        alive = f"kill -0 {slow.pid}"
        assert sandbox.commands.run(alive).exit_code == 0
        sandbox.update_network({"allow_out": ["two.test"], "deny_out": NOTHING_ELSE})
        assert sandbox.commands.run(f"timeout 5 tail --pid={slow.pid} -f /dev/null").exit_code == 0
        assert both_closed(sandbox, "one.test")
        for keep_memory in (True, False):  # without it the sandbox boots anew, from its files
            sandbox.pause(keep_memory=keep_memory)
            sandbox.connect(timeout=120)
            assert both(sandbox, "two.test") == (f"you reached {TWO}",) * 2
            assert both_closed(sandbox, "one.test")
        sandbox.update_network({"deny_out": NOTHING_ELSE})
        assert both_closed(sandbox, "two.test")
        sandbox.update_network({})
        assert both(sandbox, "one.test") == (f"you reached {ONE}",) * 2
        assert fetch(sandbox, f"http://{TWO}:8000/") == f"you reached {TWO}"


def test_internet_access_stays_off_when_an_update_does_not_name_it(own: RunningBox) -> None:
    """With ``allow_internet_access: false`` domains need no deny list; lists go, the switch stays until it is named."""
    with Sandbox.create(TEMPLATE, allow_internet_access=False, **options(own)) as sandbox:
        sandbox.update_network({"allow_out": ["one.test"]})
        assert both(sandbox, "one.test") == (f"you reached {ONE}",) * 2
        sandbox.update_network({})
        assert both_closed(sandbox, "one.test")
        sandbox.update_network({"allow_internet_access": True})
        assert both(sandbox, "one.test") == (f"you reached {ONE}",) * 2
        with pytest.raises(SandboxException, match="you must include 'ALL_TRAFFIC' in deny out"):
            sandbox.update_network({"allow_out": ["one.test"]})


def test_the_filter_survives_the_agent_and_its_own_death(own: RunningBox) -> None:
    """The agent killed -9: connections go on and rules hold; the filter killed -9: closed, then back with its rules."""
    with sandbox_with(own, "one.test") as sandbox:
        assert both(sandbox, "one.test") == (f"you reached {ONE}",) * 2
        filtering = own.filter_pid()
        assert Path(f"/proc/{filtering}").stat().st_uid == 65534  # it reads untrusted bytes as nobody
        slow = sandbox.commands.run("curl -sN http://one.test/slow", background=True, timeout=60)
        agent = own.role_pid("node")
        os.kill(agent, signal.SIGKILL)
        assert both_closed(sandbox, "two.test")
        own.role_pid("node", other_than=agent)
        assert both(sandbox, "one.test") == (f"you reached {ONE}",) * 2
        assert own.filter_pid() == filtering
        assert sandbox.commands.run(f"kill -0 {slow.pid}").exit_code == 0
        sandbox.update_network({"allow_out": ["two.test"], "deny_out": NOTHING_ELSE})
        assert both(sandbox, "two.test") == (f"you reached {TWO}",) * 2
        os.kill(filtering, signal.SIGKILL)
        assert both_closed(sandbox, "one.test")
        eventually(lambda: own.filter_pid(other_than=filtering) != 0)
        eventually(lambda: both(sandbox, "two.test") == (f"you reached {TWO}",) * 2)
        assert both_closed(sandbox, "one.test")


MANY = """
import socket, sys, threading
barrier, results = threading.Barrier(200), []
def one(number):
    s = socket.create_connection(("one.test", 80), 10)
    s.settimeout(20)
    barrier.wait(30)
    s.sendall(b"GET / HTTP/1.1\\r\\nHost: one.test\\r\\n\\r\\n")
    results.append(s.recv(4096).endswith(b"you reached 198.51.100.10\\n"))
    if number % 2:
        s.close()  # the others are cut off with the process
threads = [threading.Thread(target=one, args=(n,)) for n in range(200)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sum(results))
"""


def test_many_connections_at_once_and_nothing_stays(own: RunningBox) -> None:
    """Two hundred open connections of one sandbox all work; afterwards the filter has the descriptors it had before."""
    with sandbox_with(own, "one.test") as sandbox:
        assert both(sandbox, "one.test") == (f"you reached {ONE}",) * 2
        descriptors = Path(f"/proc/{own.filter_pid()}/fd")
        eventually(lambda: len(list(descriptors.iterdir())) < 40)
        before = len(list(descriptors.iterdir()))
        sandbox.files.write("/tmp/many.py", MANY)
        assert sandbox.commands.run("python3 /tmp/many.py", timeout=60).stdout.strip() == "200"
        eventually(lambda: len(list(descriptors.iterdir())) <= before)
