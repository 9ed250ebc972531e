"""A cluster that is to run the program, or runs it: asked, not changed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from appliance import __version__
from appliance.api import kinds, labels
from appliance.api.address import parse_domain
from appliance.api.crds import all_crds
from appliance.api.kinds import Kind
from appliance.api.structs import Object
from appliance.doctor import certificates
from appliance.doctor.findings import Finding, fail, ok, skip, warn
from appliance.install import rbac
from appliance.install.resources import ALL, DEPLOYMENT
from appliance.kube.cluster import Cluster
from appliance.kube.errors import ApiError, Forbidden, NotFound

OLDEST = (1, 29)
"""The first Kubernetes with native sidecars, which carry the runtime into sandboxes."""
SKEW = 30.0
"""Seconds by which clocks may differ."""
PURPOSES = ("install", "controller", "manager")
_ROLES = {"controller": rbac.CONTROLLER, "manager": rbac.MANAGER}
_REVIEW: Kind[Any] = Kind(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False, Object
)
_IN_FLIGHT = 16


async def examine(cluster: Cluster, purpose: str, now: datetime | None = None) -> AsyncIterator[Finding]:
    """Every finding about the cluster; ``purpose``: whose permissions are looked at. Raises KubeError."""
    version, told = await cluster.version()
    yield judge_version(version)
    yield judge_clock(told, now or datetime.now(UTC))
    yield await _definitions(cluster)
    for finding in await _permissions(cluster, purpose):
        yield finding
    yield await _nodes(cluster)
    for finding in await _deployments(cluster):
        yield finding


def judge_version(version: dict[str, Any]) -> Finding:
    """Whether the API server is new enough."""
    said = str(version.get("gitVersion", "unknown"))
    try:
        number = (int(version["major"]), int(str(version["minor"]).rstrip("+")))
    except (KeyError, ValueError):
        return skip("cluster.version", f"the server says {said!r}, which is no version")
    if number < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return fail(
            "cluster.version", f"{said}; native sidecars need {wanted}", f"upgrade the cluster to {wanted} or newer"
        )
    return ok("cluster.version", said)


def judge_clock(told: datetime | None, now: datetime) -> Finding:
    """Whether this machine and the API server agree on the time: timeouts and certificates need it."""
    if told is None:
        return skip("cluster.clock", "the server tells no time")
    skew = (now - told).total_seconds()
    if abs(skew) > SKEW:
        direction = "ahead of" if skew > 0 else "behind"
        mend = "timedatectl set-ntp true (or chronyc makestep), here and on the nodes"
        return fail("cluster.clock", f"this clock is {abs(skew):.0f} s {direction} the API server's", mend)
    return ok("cluster.clock", f"within {SKEW:g} s of the API server's")


async def _definitions(cluster: Cluster) -> Finding:
    missing, other = [], []
    for crd in all_crds():
        name = crd["metadata"]["name"]
        try:
            live = await cluster.get(kinds.CRD, None, name, type=dict[str, Any])
        except NotFound:
            missing.append(name)
            continue
        except Forbidden as error:
            return skip("cluster.definitions", error.message)
        if "deletionTimestamp" in live["metadata"]:
            missing.append(f"{name} (being deleted)")
        elif schemas(live) != schemas(crd):
            other.append(name)
    mend = f"appliance install --apply ({__version__})"
    if missing:
        return fail("cluster.definitions", f"missing: {', '.join(missing)}", mend)
    if other:
        return warn("cluster.definitions", f"not those of {__version__}: {', '.join(other)}", mend)
    return ok("cluster.definitions", f"all {len(all_crds())}, those of {__version__}")


def schemas(crd: dict[str, Any]) -> dict[str, Any]:
    """Version → schema of a definition."""
    return {version["name"]: version.get("schema") for version in crd["spec"]["versions"]}


def needed(purpose: str) -> list[tuple[str, str, str, str | None]]:
    """(group, resource, verb, namespace) that the purpose takes; to grant a role's rules one has to hold them."""
    if purpose != "install":
        name = _ROLES[purpose]
        return [*_rules(rbac.CLUSTER[name], None), *_rules(rbac.OWN[name], labels.SYSTEM_NAMESPACE)]
    made: list[tuple[str, str, str, str | None]] = []
    for kind in ALL:
        place = labels.SYSTEM_NAMESPACE if kind.namespaced else None
        made += [(kind.group, kind.plural, verb, place) for verb in ("get", "create", "patch", "delete")]
    return made + [one for name in _ROLES for one in needed(name)]


def _rules(rules: Sequence[rbac.Rule], namespace: str | None) -> list[tuple[str, str, str, str | None]]:
    return [(group, resource, verb, namespace) for group, resource, verbs in rules for verb in verbs]


async def _permissions(cluster: Cluster, purpose: str) -> list[Finding]:
    check = f"cluster.permissions.{purpose}"
    limit = asyncio.Semaphore(_IN_FLIGHT)
    wanted = list(dict.fromkeys(needed(purpose)))

    async def allowed(one: tuple[str, str, str, str | None]) -> bool:
        async with limit:
            return await _may(cluster, one)

    try:
        answers = await asyncio.gather(*(allowed(one) for one in wanted))
    except NotFound:
        return [skip(check, "this server answers no access reviews")]
    denied = [_said(one) for one, may in zip(wanted, answers, strict=True) if not may]
    if not denied:
        return [ok(check, f"all {len(wanted)} are granted")]
    shown = "; ".join(denied[:8]) + (f"; and {len(denied) - 8} more" if len(denied) > 8 else "")
    if purpose == "install":
        mend = "kubectl create clusterrolebinding appliance-installer --clusterrole=cluster-admin --user=WHO"
    else:
        mend = "appliance install --apply, as a cluster administrator"
    return [fail(check, f"may not {shown}", mend)]


async def _may(cluster: Cluster, one: tuple[str, str, str, str | None]) -> bool:
    group, resource, verb, namespace = one
    name, _, sub = resource.partition("/")
    asked = {"group": group, "resource": name, "subresource": sub, "verb": verb, "namespace": namespace or ""}
    review = await cluster.create(_REVIEW, None, {"spec": {"resourceAttributes": asked}}, type=dict[str, Any])
    return bool(review.get("status", {}).get("allowed"))


def _said(one: tuple[str, str, str, str | None]) -> str:
    group, resource, verb, namespace = one
    return f"{verb} {resource}{'.' + group if group else ''}" + (f" in {namespace}" if namespace else "")


async def _nodes(cluster: Cluster) -> Finding:
    try:
        nodes = (await cluster.list(kinds.NODE, type=dict[str, Any])).items
    except Forbidden as error:
        return skip("cluster.nodes", error.message)
    ready = [node for node in nodes if _true(node, "Ready")]
    others = [
        node["metadata"]["name"]
        for node in ready
        if (node.get("status", {}).get("nodeInfo") or {}).get("architecture", "amd64") != "amd64"
    ]
    if not ready:
        return fail("cluster.nodes", f"0 of {len(nodes)} nodes are ready", "kubectl describe nodes")
    if others:
        mend = "values nodeSelector: {kubernetes.io/arch: amd64}, and the same in the pods of SandboxSets"
        return warn("cluster.nodes", f"not amd64, which the image is for: {', '.join(others[:5])}", mend)
    return ok("cluster.nodes", f"{len(ready)} of {len(nodes)} ready")


def _true(thing: dict[str, Any], condition: str) -> bool:
    found = (thing.get("status") or {}).get("conditions") or []
    return any(one["type"] == condition and one["status"] == "True" for one in found)


async def _deployments(cluster: Cluster) -> list[Finding]:
    findings = []
    for name in (rbac.CONTROLLER, rbac.MANAGER):
        try:
            found = await cluster.get(DEPLOYMENT, labels.SYSTEM_NAMESPACE, name, type=dict[str, Any])
        except NotFound:
            findings.append(warn("cluster.deployments", f"{name} is not installed", "appliance install --apply"))
            continue
        except ApiError as error:
            findings.append(skip("cluster.deployments", str(error)))
            continue
        findings.append(judge_deployment(found))
        findings += await _secrets(cluster, found)
    return findings


def judge_deployment(found: dict[str, Any]) -> Finding:
    """Whether enough pods of the right version run."""
    name, wanted = found["metadata"]["name"], found["spec"]["replicas"]
    version = (found["metadata"].get("labels") or {}).get("app.kubernetes.io/version", "unknown")
    have = (found.get("status") or {}).get("availableReplicas", 0)
    if have < wanted:
        mend = f"kubectl -n {labels.SYSTEM_NAMESPACE} describe pods -l app.kubernetes.io/component={name}"
        return (fail if not have else warn)("cluster.deployments", f"{name}: {have} of {wanted} pods available", mend)
    if version != __version__:
        return warn(
            "cluster.deployments", f"{name} is {version}, this program {__version__}", "appliance install --apply"
        )
    return ok("cluster.deployments", f"{name} {version}: {have} of {wanted} pods available")


async def _secrets(cluster: Cluster, deployment: dict[str, Any]) -> list[Finding]:
    findings = []
    volumes = deployment["spec"]["template"]["spec"].get("volumes") or []
    command = " ".join(deployment["spec"]["template"]["spec"]["containers"][0].get("command") or [])
    domain = next((word.partition("=")[2] for word in command.split() if word.startswith("--domain=")), None)
    for volume in volumes:
        name = (volume.get("secret") or {}).get("secretName")
        if not name:
            continue
        make = f"kubectl -n {labels.SYSTEM_NAMESPACE} create secret "
        make += (
            f"tls {name} --cert=FILE --key=FILE"
            if volume["name"] == "tls"
            else f"generic {name} --from-file=api-key=FILE"
        )
        try:
            secret = await cluster.get(kinds.SECRET, labels.SYSTEM_NAMESPACE, name, type=dict[str, Any])
        except NotFound:
            findings.append(fail("cluster.secrets", f"the Secret {name} is missing: managers cannot start", make))
            continue
        except ApiError as error:
            findings.append(skip("cluster.secrets", f"{name}: {error}"))
            continue
        entry = "tls.crt" if volume["name"] == "tls" else "api-key"
        if entry not in (secret.get("data") or {}):
            findings.append(fail("cluster.secrets", f"the Secret {name} has no entry {entry}", make))
        elif entry == "tls.crt":
            pem = base64.b64decode(secret["data"][entry])
            host = parse_domain(domain, "--domain").name if domain else None
            findings.append(certificates.judge("cluster.certificates", pem, f"Secret {name}", host, make))
        else:
            findings.append(ok("cluster.secrets", f"{name} is there"))
    return findings
