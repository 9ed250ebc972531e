"""A domain of one's own: wildcard names, TLS of the box's authority, and the SDK release that knows no other way.

e2b-code-interpreter 2.4.1 runs code only at ``https://49999-ID.DOMAIN``. The box is started with a domain, its TLS
socket and its resolver; the program runs in a mount namespace whose resolv.conf names that resolver.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from boxes import RunningBox, environment, free_port
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


def test_the_seed_runs_over_a_domain_with_both_releases(start_box: Callable[..., RunningBox], tmp_path: Path) -> None:
    """Every program of the seed runs with nothing but the domain, the key and the trusted authority."""
    releases = interpreters()
    if "2.8.1" not in releases:
        pytest.skip("APPLIANCE_TEST_OLD_SDK is unset; packaging/test.sh makes the environment")
    tls = f"127.0.0.1:{free_port()}"
    box = start_box(pool=3, extra=("--domain", "sbx.test", "--tls-listen", tls, "--dns-listen", f"{NAMESERVER}:53"))
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(f"nameserver {NAMESERVER}\n")
    assert box.domain == f"sbx.test:{tls.rpartition(':')[2]}"
    wanted = ("E2B_API_KEY", "SSL_CERT_FILE")
    env = {**environment(), **{name: box.env[name] for name in wanted}, "E2B_DOMAIN": box.domain}
    for release, python in releases.items():
        done = in_resolving_namespace([python, str(PROGRAM)], resolv, env)
        assert done.returncode == 0, f"{release}: {done.stderr}\n{box.role_logs()}"
        assert PROGRAM.read_text() in done.stdout
