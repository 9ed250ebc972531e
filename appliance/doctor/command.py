"""Puts the parts of ``appliance doctor`` together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.api.address import parse_domain
from appliance.config import KubeSettings
from appliance.doctor import certificates, cluster, machine
from appliance.doctor.findings import Finding, as_json, as_text, exit_code, fail


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to look at."""

    data_dir: Path
    listens: tuple[str, ...]
    machine: bool
    kube: KubeSettings | None
    """None: no cluster."""
    purpose: str
    domain: str | None
    tls_cert: Path | None


async def run(request: Request, in_json: bool, say: Callable[[str], None]) -> int:
    """Look, report, and return the exit code."""
    findings: list[Finding] = []
    if request.machine:
        findings += machine.judge(machine.look(request.data_dir, request.listens))
        domain = parse_domain(request.domain, "--domain").name if request.domain else None
        findings += certificates.of_box(request.data_dir, request.tls_cert, domain)
    if request.domain:
        findings.append(certificates.names(parse_domain(request.domain, "--domain").name))
    if request.kube is not None:
        findings += await _cluster(request.kube, request.purpose)
    say(as_json(findings) if in_json else as_text(findings))
    return exit_code(findings)


async def _cluster(settings: KubeSettings, purpose: str) -> list[Finding]:
    from appliance.kube.cluster import Cluster
    from appliance.kube.errors import KubeError

    findings: list[Finding] = []
    try:
        async with await Cluster.connect(settings) as connected:
            findings.extend([finding async for finding in cluster.examine(connected, purpose)])
    except KubeError as error:
        mend = f"is it the right one? {settings.kubeconfig or 'the service account of the pod'} names the server"
        findings.append(fail("cluster.reachable", str(error), mend))
    return findings
