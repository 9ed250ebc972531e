"""A domain of one's own: wildcard names, TLS of the box's authority, and the SDK release that knows no other way.

e2b-code-interpreter 2.4.1 runs code only at ``https://49999-ID.DOMAIN``. The box is started with a domain, its TLS
socket and its resolver; the program runs in a mount namespace whose resolv.conf names that resolver.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from boxes import RunningBox, environment, free_port, launch, run_appliance
from test_seed import PROGRAM

pytestmark = [pytest.mark.box, pytest.mark.timeout(240)]
NAMESERVER = "127.0.53.53"


def interpreters() -> dict[str, str]:
    """SDK release → the interpreter of the environment that has it."""
    old = os.environ.get("APPLIANCE_TEST_OLD_SDK")
    return {"newest": sys.executable, **({"2.8.1": f"{old}/bin/python"} if old else {})}


def in_resolving_namespace(command: list[str], resolv: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``command`` where /etc/resolv.conf is ``resolv``."""
    script = f"mount --bind {shlex.quote(str(resolv))} /etc/resolv.conf && exec {shlex.join(command)}"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], env=env, capture_output=True, text=True, timeout=150, check=False
    )


@dataclass
class Domain:
    """A box with a domain, and a shell that has nothing but the domain, the key and the trusted authority."""

    box: RunningBox
    resolv: Path
    env: dict[str, str]

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run ``command`` where the box's resolver is asked."""
        return in_resolving_namespace([str(word) for word in command], self.resolv, self.env)


@pytest.fixture(scope="module")
def domain(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    """A box on the certificate that ``appliance domain`` made, with its resolver."""
    directory = tmp_path_factory.mktemp("domain")
    listen = f"127.0.0.1:{free_port()}"
    name = f"sbx.test:{listen.rpartition(':')[2]}"
    said = run_appliance("domain", name, "--data-dir", str(directory / "box")).stdout
    assert "made: for sbx.test and *.sbx.test" in said and f"--domain={name}" in said
    made = (directory / "box/tls/domain.crt").read_bytes()
    extra = ("--domain", name, "--tls-listen", listen, "--dns-listen", f"{NAMESERVER}:53")
    box = launch(directory / "box", pool=3, extra=extra)
    try:
        box.wait_ready()
        assert (directory / "box/tls/domain.crt").read_bytes() == made and box.domain == name
        resolv = directory / "resolv.conf"
        resolv.write_text(f"nameserver {NAMESERVER}\n")
        wanted = ("E2B_API_KEY", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
        own = {name: box.env[name] for name in wanted} | {"E2B_DOMAIN": box.domain, "HOME": str(directory)}
        yield Domain(box, resolv, {**environment(), **own})
    finally:
        if box.process.poll() is None:
            box.stop()


@pytest.mark.parametrize("release", ["newest", "2.8.1"])
def test_the_seed_runs_over_a_domain(domain: Domain, release: str) -> None:
    """Every program of the seed runs with nothing but the domain, the key and the trusted authority."""
    python = interpreters().get(release)
    if python is None:
        pytest.skip("APPLIANCE_TEST_OLD_SDK is unset; packaging/test.sh makes the environment")
    done = domain.run(python, PROGRAM)
    assert done.returncode == 0, f"{release}: {done.stderr}\n{domain.box.role_logs()}"
    assert PROGRAM.read_text() in done.stdout


FALLBACK = """
import os, subprocess, httpx
from e2b import Sandbox
with Sandbox.create("code-interpreter", timeout=60) as sandbox:
    sandbox.commands.run("mkdir -p /tmp/www && echo served > /tmp/www/x && python3 -m http.server 8000 -d /tmp/www",
                         background=True, timeout=0)
    sandbox.commands.run("until curl -s localhost:8000/x; do sleep 0.05; done")
    url, ca = f"https://{sandbox.get_host(8000)}/x", os.environ["SSL_CERT_FILE"]
    curl = ["curl", "-sS", "--cacert", ca, "-w", "%{http_version} %{num_connects} %{http_code}"]
    for offer in ("--http2", "--http1.1"):
        print("curl", subprocess.check_output([*curl, offer, url], text=True).split())
    with httpx.Client(http2=True, verify=ca) as client:
        answers = [client.get(url) for _ in range(3)]
        print("httpx", {(one.http_version, one.status_code, one.text) for one in answers})
    health = httpx.Client(http2=True, verify=ca).get(f"https://api.{os.environ['E2B_DOMAIN']}/health")
    print("api", health.http_version, health.status_code)
"""


def test_clients_that_offer_http_2_are_led_to_http_1_1(domain: Domain) -> None:
    """curl --http2 and httpx with HTTP/2 agree on HTTP/1.1 in the handshake: one connection, no failed request."""
    done = domain.run(sys.executable, "-W", "ignore", "-c", FALLBACK)
    assert done.returncode == 0, f"{done.stderr}\n{domain.box.role_logs()}"
    assert done.stdout.splitlines() == [
        "curl ['served', '1.1', '1', '200']",
        "curl ['served', '1.1', '1', '200']",
        "httpx {('HTTP/1.1', 200, 'served\\n')}",
        "api HTTP/1.1 200",
    ]


def test_the_javascript_sdk_and_the_cli_run_over_a_domain(domain: Domain, tmp_path: Path) -> None:
    """Node with the authority in NODE_EXTRA_CA_CERTS: the SDK, fetch, undici with HTTP/2 on offer, and ``e2b``."""
    found = os.environ.get("APPLIANCE_TEST_JS")
    if found is None:
        pytest.skip("APPLIANCE_TEST_JS is unset; packaging/test.sh installs the npm packages of tests/e2e/js")
    modules = Path(found) / "node_modules"
    (tmp_path / "node_modules").symlink_to(modules)
    script = shutil.copy(Path(__file__).parent / "js/domain.mjs", tmp_path)
    done = domain.run("node", script)
    assert (done.returncode, done.stdout) == (0, "ok\n"), f"{done.stderr}\n{domain.box.role_logs()}"
    done = domain.run("node", modules / ".bin/e2b", "template", "list")
    assert done.returncode == 0 and "code-interpreter" in done.stdout, f"{done.stdout}{done.stderr}"
