"""What a machine lacks is named with what mends it; certificates and names likewise."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.box import certificates as made
from appliance.box.layout import write_private
from appliance.doctor import certificates, cluster, machine
from appliance.doctor.findings import FAIL, OK, SKIP, WARN, exit_code

GOOD = machine.Machine(
    python=(3, 11),
    machine="x86_64",
    kernel="6.1",
    libc="glibc 2.36",
    capabilities=(1 << 21) | (1 << 12) | (1 << 7),
    programs=dict.fromkeys((*machine.PROGRAMS, *machine.OPTIONAL), "/usr/bin/x"),
    filesystems=frozenset({"overlay"}),
    namespaces=frozenset(machine.NAMESPACES),
    max_user_namespaces=100,
    loop=True,
    cgroups="",
    memory=4 << 30,
    disk=9 << 30,
    data_dir=Path("/var/lib/appliance"),
    busy=(),
    nameservers=("192.0.2.1",),
    running=False,
)
BROKEN: list[tuple[dict[str, Any], str, str, str]] = [
    ({"python": (3, 10)}, "machine.python", FAIL, "apt-get install python3.11"),
    ({"python": (3, 15)}, "machine.python", FAIL, "apt-get install python3.11"),
    ({"machine": "aarch64"}, "machine.system", FAIL, "such a machine"),
    ({"libc": ""}, "machine.system", FAIL, "such a machine"),
    ({"capabilities": 0}, "machine.privileges", FAIL, "--isolation=process"),
    ({"programs": {"ip": "/sbin/ip", "sudo": "x", "git": "x"}}, "machine.programs", FAIL, "nftables e2fsprogs"),
    ({"programs": {**GOOD.programs, "git": None}}, "machine.programs", WARN, "apt-get install git"),
    ({"namespaces": frozenset({"net"})}, "machine.kernel", FAIL, "CONFIG_USER_NS"),
    ({"max_user_namespaces": 0}, "machine.kernel", FAIL, "sysctl -w user.max_user_namespaces"),
    ({"filesystems": frozenset()}, "machine.kernel", FAIL, "modprobe overlay"),
    ({"loop": False}, "machine.kernel", FAIL, "modprobe loop"),
    ({"cgroups": "/sys/fs/cgroup may not be written"}, "machine.cgroups", FAIL, "remount,rw"),
    ({"disk": 1 << 20}, "machine.disk", FAIL, "--data-dir"),
    ({"disk": 1 << 30}, "machine.disk", WARN, "--data-dir"),
    ({"disk": None}, "machine.disk", SKIP, ""),
    ({"memory": 1 << 20}, "machine.memory", WARN, "pools small"),
    ({"busy": ("127.0.0.1:8080",)}, "machine.ports", FAIL, "--listen"),
    ({"nameservers": ()}, "machine.dns", WARN, "/etc/resolv.conf"),
]


def test_a_good_machine_has_nothing_to_mend() -> None:
    """Every check says what it saw; the exit code is 0."""
    findings = list(machine.judge(GOOD))
    assert {finding.status for finding in findings} == {OK}
    assert {"machine.python", "machine.kernel", "machine.cgroups", "machine.disk"} <= {one.check for one in findings}
    assert exit_code(findings) == 0


@pytest.mark.parametrize(("change", "check", "status", "mend"), BROKEN)
def test_each_lack_is_found_and_its_mending_said(change: dict[str, Any], check: str, status: str, mend: str) -> None:
    """One thing is wrong, one finding says so, with the command; all others stay well."""
    findings = list(machine.judge(replace(GOOD, **change)))
    wrong = [finding for finding in findings if finding.status != OK]
    assert [(one.check, one.status) for one in wrong] == [(check, status)]
    assert mend in wrong[0].mend
    assert exit_code(findings) == (status == FAIL)


def test_this_machine_can_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command sees a real machine; what is not in PATH is missing in its JSON, and the exit code says so."""
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    assert cli.main(["doctor", "--machine-only", "--json", "--data-dir", str(tmp_path)]) == 1
    said = json.loads(capsys.readouterr().out)
    programs = [one for one in said["findings"] if one["check"] == "machine.programs"]
    assert programs[0]["mend"] == "apt-get install iproute2 nftables e2fsprogs"
    assert said["ok"] is False


@pytest.fixture
def pem(tmp_path: Path) -> bytes:
    """A certificate for sbx.test and *.sbx.test."""
    made.ensure(tmp_path, "127.0.0.1", write_private)
    made.ensure_domain(tmp_path, "sbx.test", write_private)
    return (tmp_path / "domain.crt").read_bytes()


@pytest.mark.parametrize(
    ("domain", "days", "status", "words"),
    [
        ("sbx.test", 0, OK, "valid until"),
        ("other.test", 0, FAIL, "not for *.other.test and other.test, but for"),
        ("sbx.test", -9999, FAIL, "not valid before"),
        ("sbx.test", 99999, FAIL, "ended"),
    ],
)
def test_certificates_are_judged(pem: bytes, domain: str, days: int, status: str, words: str) -> None:
    """For the wrong names, not yet or no longer valid: said with the instant."""
    now = datetime.now(UTC) + timedelta(days=days)
    found = certificates.judge("x", pem, "the file", domain, "renew it", now)
    assert (found.status, words in found.message) == (status, True), found


def test_a_certificate_about_to_end_is_a_warning(pem: bytes) -> None:
    """Two weeks before its end it still works, and is named."""
    from cryptography import x509

    end = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    assert certificates.judge("x", pem, "f", None, "renew it", end - timedelta(days=3)).status == WARN
    assert certificates.judge("x", b"nothing", "f", None, "renew it").status == FAIL


def test_names_that_lead_nowhere_are_found() -> None:
    """A domain under .invalid can never be looked up."""
    found = certificates.names("sandboxes.invalid")
    assert found.status == FAIL
    assert "*.sandboxes.invalid" in found.mend
    assert certificates.names("localhost").status in (OK, FAIL)  # the resolver's own choice, but no exception


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ({"gitVersion": "v1.36.3", "major": "1", "minor": "36"}, OK),
        ({"gitVersion": "v1.29.1-eks", "major": "1", "minor": "29+"}, OK),
        ({"gitVersion": "v1.28.0", "major": "1", "minor": "28"}, FAIL),
        ({"gitVersion": "odd"}, SKIP),
    ],
)
def test_old_clusters_are_named(version: dict[str, Any], status: str) -> None:
    """Before native sidecars the runtime cannot be carried into sandboxes."""
    assert cluster.judge_version(version).status == status


@pytest.mark.parametrize(("skew", "status"), [(0, OK), (29, OK), (-31, FAIL), (3600, FAIL)])
def test_clocks_that_disagree_are_found(skew: int, status: str) -> None:
    """More than half a minute either way breaks timeouts and certificates."""
    told = datetime(2026, 1, 1, tzinfo=UTC)
    assert cluster.judge_clock(told, told + timedelta(seconds=skew)).status == status
    assert cluster.judge_clock(None, told).status == SKIP
