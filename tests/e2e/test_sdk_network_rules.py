"""``network.rules`` through the SDK on a real box; hosts in a network namespace stand for the internet."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from boxes import RunningBox, launch
from e2b import Sandbox
from e2b.exceptions import SandboxException
from kubectl import Kubectl
from outside import outside
from waiting import eventually

from appliance.claims.authority import new_authority

pytestmark = [pytest.mark.box, pytest.mark.kubectl, pytest.mark.timeout(300)]
ONE, TWO, DNS = "198.51.100.10", "203.0.113.20", "198.51.100.53"
NAMES = {"one.test": ONE, "two.test": TWO, "bad.test": TWO}
TEMPLATE = "code-interpreter"
NOTHING_ELSE = ["0.0.0.0/0"]
SECRET = "a-value-that-nobody-sees"
MINE = new_authority().certificate


@pytest.fixture(scope="module")
def own(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    """A box that trusts the hosts outside, but for ``bad.test``, and asks the name server there."""
    directory = tmp_path_factory.mktemp("rules")
    resolv, trusted = directory / "resolv.conf", directory / "trusted.pem"
    resolv.write_text(f"nameserver {DNS}\n")
    link = IPv4Network("198.18.17.0/30")
    with outside([ONE, TWO, DNS], link, names=NAMES, dns=DNS, proven=("one.test", "two.test")) as authority:
        trusted.write_text(authority)
        trust = {"SSL_CERT_FILE": str(trusted)}
        running = launch(directory / "box", pool=2, extra=("--resolv-conf", str(resolv)), env=trust)
        try:
            running.wait_ready()
            yield running
        finally:
            if running.process.poll() is None:
                running.stop()


@pytest.fixture
def kubectl(own: RunningBox) -> Kubectl:
    """As the administrator."""
    if "APPLIANCE_TEST_KUBECTL" not in os.environ:
        pytest.skip("APPLIANCE_TEST_KUBECTL is unset; packaging/test.sh builds kubectl and sets it")
    return Kubectl(own.kubeconfig)


def options(box: RunningBox) -> dict[str, Any]:
    """How the SDK reaches the box."""
    return {
        "api_key": box.env["E2B_API_KEY"],
        "api_url": box.env["E2B_API_URL"],
        "sandbox_url": box.env["E2B_SANDBOX_URL"],
        "timeout": 120,
    }


def rules(value: str = SECRET, *hosts: str) -> dict[str, Any]:
    """``X-Key`` for these hosts, else for one.test."""
    return {host: [{"transform": {"headers": {"X-Key": value}}}] for host in hosts or ("one.test",)}


def sandbox_with(box: RunningBox, **network: Any) -> Sandbox:
    """A sandbox with these network options, and rules for one.test unless they have others."""
    return Sandbox.create(TEMPLATE, network={"rules": rules(), **network}, **options(box))


def shell(sandbox: Sandbox, command: str) -> str:
    """What it prints; failing is no error."""
    return sandbox.commands.run(f"({command}) 2>&1 || true", timeout=60).stdout.strip()


def fetch(sandbox: Sandbox, url: str, *curl: str) -> str:
    """The body, which is a request's head for ``/headers``; empty when curl fails."""
    return shell(sandbox, " ".join(["curl", "-s", "-m", "20", *curl, url]))


def keys(sandbox: Sandbox, name: str = "one.test", *curl: str) -> list[list[str]]:
    """Values of ``X-Key`` that a host got by HTTPS and by HTTP."""
    said = [fetch(sandbox, f"{scheme}://{name}/headers", *curl) for scheme in ("https", "http")]
    assert all(one.startswith("GET /headers HTTP/1.1") for one in said), said
    return [[line.partition(": ")[2] for line in one.splitlines() if line.lower().startswith("x-key:")] for one in said]


BOTH = [[SECRET], [SECRET]]


def lasting(sandbox: Sandbox) -> int:
    """The pid of a program that has had half of an answer of one.test, and waits for the rest."""
    shell(sandbox, "rm -f /tmp/half")
    slow = sandbox.commands.run("curl -sN https://one.test/slow > /tmp/half", background=True, timeout=60)
    eventually(lambda: shell(sandbox, "cat /tmp/half") == "x")
    return slow.pid


def test_requests_get_the_header_and_nobody_else_does(own: RunningBox) -> None:
    """By HTTP and HTTPS, once, in place of the client's; bodies pass; other hosts and other sandboxes are untouched."""
    with sandbox_with(own) as sandbox, Sandbox.create(TEMPLATE, **options(own)) as other:
        assert keys(sandbox) == BOTH
        assert keys(sandbox, "ONE.test", "-H", "'x-KEY: mine'", "-H", "'X-Key: two'") == BOTH
        for length in ("-H 'Transfer-Encoding:'", "-H 'Expect: 100-continue'"):
            shell(sandbox, "head -c 3000000 /dev/zero > /tmp/body")
            told = fetch(sandbox, "https://one.test/headers", "--data-binary", "@/tmp/body", length)
            assert f"X-Key: {SECRET}" in told and told.endswith("3000000 bytes")
        assert keys(sandbox, "two.test", "-k") == [[], []]
        assert fetch(sandbox, "https://two.test/names", "-k") == f"{TWO} host=two.test sni=two.test"
        assert keys(other, "one.test", "-k") == [[], []]
        assert fetch(other, "https://one.test/") == ""  # whose authority it does not know


PROGRAMS = {
    "urllib": "import urllib.request; print(urllib.request.urlopen('https://one.test/headers').read().decode())",
    "http.client": (
        "import http.client; c = http.client.HTTPSConnection('one.test')\n"
        "for _ in range(3): c.request('GET', '/headers'); print(c.getresponse().read().decode())"
    ),
    "requests": "import requests; print(requests.get('https://one.test/headers').text)",
    "httpx": "import httpx; print(httpx.get('https://one.test/headers').text)",
}
NODE = "fetch('https://one.test/headers').then(r => r.text()).then(console.log, console.log)"


def test_programs_trust_the_box_for_these_hosts(own: RunningBox) -> None:
    """curl, OpenSSL by its directory, Python's libraries, Node and cells; also after ``update-ca-certificates``."""
    with sandbox_with(own) as sandbox:
        for _ in range(2):
            assert keys(sandbox) == BOTH
            verified = shell(sandbox, "openssl s_client -connect one.test:443 -CApath /etc/ssl/certs < /dev/null")
            assert "Verify return code: 0 (ok)" in verified
            for name, program in PROGRAMS.items():
                if shell(sandbox, f"python3 -c 'import {name}' && echo there").endswith("there"):
                    sandbox.files.write("/tmp/program.py", program)
                    assert SECRET in shell(sandbox, "python3 /tmp/program.py"), name
            assert SECRET in shell(sandbox, f'node -e "{NODE}"')
            assert "tmpfs" in shell(sandbox, "findmnt -T /etc/ssl/certs -o SOURCE,FSTYPE --noheadings")
            sandbox.commands.run("update-ca-certificates", user="root")
        for inside in ("cat /etc/ssl/certs/* /usr/local/share/ca-certificates/*", "env", "ps -ef", "mount"):
            told = sandbox.commands.run(inside + " || true", user="root").stdout
            assert SECRET not in told and "PRIVATE KEY" not in told


def test_a_host_that_cannot_prove_its_name_gets_nothing(own: RunningBox) -> None:
    """502 by HTTPS, and the text says why; by HTTP there is nothing to prove."""
    with sandbox_with(own, rules=rules(SECRET, "bad.test")) as sandbox:
        told = fetch(sandbox, "https://bad.test/headers", "-w", "%{http_code}")
        assert told.endswith("502") and "the certificate of bad.test was not accepted" in told
        assert SECRET in fetch(sandbox, "http://bad.test/headers")


def test_a_sandbox_cannot_send_the_header_elsewhere(own: RunningBox) -> None:
    """A forged address leads to the named host; another name in a request on the host's connection is refused."""
    with sandbox_with(own) as sandbox:
        assert fetch(sandbox, "https://one.test/", "--resolve", f"one.test:443:{TWO}") == f"you reached {ONE}"
        assert fetch(sandbox, "http://one.test/", "--resolve", f"one.test:80:{TWO}") == f"you reached {ONE}"
        told = fetch(sandbox, "https://one.test/headers", "-H", "Host:two.test", "-w", "%{http_code}")
        assert told.endswith("400") and SECRET not in told
        assert fetch(sandbox, "http://one.test/headers", "-H", "Host:two.test").startswith("GET /headers")


def test_rules_open_nothing_and_hold_for_what_is_open(own: RunningBox) -> None:
    """With everything denied a host needs to be allowed, by name or by address; what else is allowed stays so."""
    with sandbox_with(own, deny_out=NOTHING_ELSE) as sandbox:
        closed = f"curl -s -m 3 --resolve one.test:443:{ONE} https://one.test/"
        assert shell(sandbox, closed) == ""
        sandbox.update_network({"rules": rules(), "allow_out": lambda ctx: list(ctx.rules), "deny_out": NOTHING_ELSE})
        assert keys(sandbox) == BOTH
        assert shell(sandbox, "curl -s -m 3 http://two.test/") == ""
        sandbox.update_network({"rules": rules(), "allow_out": ["one.test", TWO], "deny_out": NOTHING_ELSE})
        assert keys(sandbox) == BOTH
        assert fetch(sandbox, f"http://{TWO}/") == fetch(sandbox, f"https://{TWO}/", "-k") == f"you reached {TWO}"
        assert fetch(sandbox, f"http://{TWO}:8000/") == f"you reached {TWO}"
        sandbox.update_network({"rules": rules(), "deny_out": [ONE]})
        assert shell(sandbox, closed) == ""
        assert fetch(sandbox, "http://two.test/") == f"you reached {TWO}"


def secrets(kubectl: Kubectl) -> dict[str, Any]:
    """Of header rules, by name."""
    items = json.loads(kubectl("get", "secrets", "-A", "-o", "json"))["items"]
    return {one["metadata"]["name"]: one for one in items if "-rules-" in one["metadata"]["name"]}


def test_updates_replace_and_clear_and_values_stay_in_their_secret(own: RunningBox, kubectl: Kubectl) -> None:
    """In force when the call returns, also for connections that exist; one Secret at a time, gone with the sandbox."""
    with sandbox_with(own, allow_public_traffic=True) as sandbox:
        assert sandbox.get_info().network["rules"] == rules()
        shell(sandbox, "cp /etc/ssl/certs/ca-certificates.crt /tmp/before")
        slow = lasting(sandbox)
        sandbox.update_network({"rules": rules("next", "one.test", "two.test")})
        assert sandbox.commands.run(f"timeout 5 tail --pid={slow} -f /dev/null").exit_code == 0
        assert keys(sandbox) == keys(sandbox, "two.test") == [["next"], ["next"]]
        assert keys(sandbox, "one.test", "--cacert", "/tmp/before") == [["next"], ["next"]]  # the authority has stayed
        kept = secrets(kubectl)
        assert len(kept) == 1
        (secret,) = kept.values()
        assert secret["metadata"]["ownerReferences"][0]["kind"] == "Sandbox"
        assert "next" in base64.b64decode(secret["data"]["rules"]).decode()
        visible = kubectl("get", "sandboxes,pods,events,configmaps", "-A", "-o", "json")
        assert SECRET not in visible and "next" not in visible.replace("nextTransition", "")
        for log in own.data_dir.rglob("*.log"):
            assert SECRET not in log.read_text(errors="replace")
        sandbox.update_network({})
        assert keys(sandbox, "one.test", "-k") == [[], []]
        assert fetch(sandbox, "https://one.test/") == "" and secrets(kubectl) == {}
        assert "rules" not in (sandbox.get_info().network or {})
        assert shell(sandbox, "ls /usr/local/share/ca-certificates/e2b-ca.crt").endswith("No such file or directory")
        sandbox.update_network({"rules": rules()})
        assert keys(sandbox) == BOTH
    eventually(lambda: secrets(kubectl) == {})


def test_pauses_and_deaths_keep_the_rules(own: RunningBox) -> None:
    """A pause with memory and without, the runtime, the agent and the filter killed -9; added authorities stay too."""
    with sandbox_with(own) as sandbox:
        assert keys(sandbox) == BOTH
        bundle, mine = "/etc/ssl/certs/ca-certificates.crt", "/usr/local/share/ca-certificates/mine.crt"
        sandbox.files.write("/tmp/mine", MINE)
        shell(sandbox, f"sudo cp /tmp/mine {mine} && sudo update-ca-certificates")
        for keep_memory in (True, False):  # without it the sandbox boots anew, from its files
            sandbox.pause(keep_memory=keep_memory)
            sandbox.connect(timeout=120)
            assert keys(sandbox) == BOTH
            assert MINE in sandbox.files.read(bundle)
        slow = lasting(sandbox)
        agent = own.role_pid("node")
        os.kill(agent, signal.SIGKILL)
        assert keys(sandbox) == BOTH
        own.role_pid("node", other_than=agent)
        sandbox.update_network({"rules": rules("after")})
        assert keys(sandbox) == [["after"], ["after"]]
        assert sandbox.commands.run(f"timeout 5 tail --pid={slow} -f /dev/null").exit_code == 0
        filtering = own.filter_pid()
        assert Path(f"/proc/{filtering}").stat().st_uid == 65534  # it reads untrusted bytes as nobody
        assert SECRET.encode() not in Path(f"/proc/{filtering}/cmdline").read_bytes()
        os.kill(filtering, signal.SIGKILL)
        eventually(lambda: own.filter_pid(other_than=filtering) != 0)
        eventually(
            lambda: SECRET not in fetch(sandbox, "http://one.test/headers") and fetch(sandbox, "http://one.test/")
        )
        assert keys(sandbox) == [["after"], ["after"]]
        with contextlib.suppress(SandboxException):
            shell(sandbox, "sudo pkill -9 -f '^appliance: runtime'")
        assert keys(sandbox) == [["after"], ["after"]]
        assert SECRET not in shell(sandbox, "env") and "NODE_EXTRA_CA_CERTS" in shell(sandbox, "env")


def test_sandboxes_made_on_demand_have_their_rules(own: RunningBox) -> None:
    """More at once than the pool has: each comes up with its own value."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda number: sandbox_with(own, rules=rules(f"value-{number}")), range(4)))
    try:
        assert [keys(one) for one in made] == [[[f"value-{n}"], [f"value-{n}"]] for n in range(4)]
    finally:
        for one in made:
            one.kill()


MANY = """
import socket, ssl, threading
context, barrier, results = ssl.create_default_context(), threading.Barrier(100), []
def one(number):
    s = context.wrap_socket(socket.create_connection(("one.test", 443), 20), server_hostname="one.test")
    s.settimeout(30)
    barrier.wait(40)
    s.sendall(b"GET /headers HTTP/1.1\\r\\nHost: one.test\\r\\n\\r\\n")
    results.append(b"X-Key: " in s.recv(4096))
    if number % 2:
        s.close()  # the others are cut off with the process
threads = [threading.Thread(target=one, args=(n,)) for n in range(100)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sum(results))
"""


def test_many_connections_at_once_and_nothing_stays(own: RunningBox) -> None:
    """A hundred open TLS connections of one sandbox get the header; afterwards the filter has as many descriptors."""
    with sandbox_with(own) as sandbox:
        assert keys(sandbox) == BOTH
        descriptors = Path(f"/proc/{own.filter_pid()}/fd")
        eventually(lambda: len(list(descriptors.iterdir())) < 40)
        before = len(list(descriptors.iterdir()))
        sandbox.files.write("/tmp/many.py", MANY)
        assert sandbox.commands.run("python3 /tmp/many.py", timeout=90).stdout.strip() == "100"
        eventually(lambda: len(list(descriptors.iterdir())) <= before)


REFUSED = [
    ({f"h{n}.test": [] for n in range(11)}, "Network rules can have at most 10 domains."),
    ({"one.test": [{}, {}]}, 'Domain "one.test" can have at most 1 transform rule.'),
    ({"*.one.test": [{}]}, 'Rule domain "*.one.test" is not a valid domain name.'),
    (
        {"one.test": [{"transform": {"headers": {f"x-{n}": "" for n in range(21)}}}]},
        "can have at most 20 headers per rule.",
    ),
    (rules("x" * 2049), "exceeds maximum length of 2048 characters."),
]


@pytest.mark.parametrize(("wrong", "message"), REFUSED, ids=lambda value: str(value)[:30])
def test_limits_are_refused(own: RunningBox, wrong: dict[str, Any], message: str) -> None:
    """On create and on update, with the original's words."""
    with pytest.raises(SandboxException, match="400") as failed:
        Sandbox.create(TEMPLATE, network={"rules": wrong}, **options(own))
    assert message in str(failed.value)
