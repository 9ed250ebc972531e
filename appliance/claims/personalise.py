"""Making a taken sandbox the owner's: everything between the write and the answer, at the same time.

Four things that do not wait for each other: the runtime's /init (token, environment), the Secret from which the
controller replays that environment when a pod is made anew, the user's labels on the pod, and, when the owner
restricted the network, the node's confirmation that the policy is in force. If one fails, the others are stopped and
awaited before the error leaves, so that a clean-up never races with them.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from appliance.api import conditions, kinds, labels, times
from appliance.api.corestructs import Pod
from appliance.api.egress import UNENFORCEABLE, Egress, egress_of, reason
from appliance.api.header_rules import HeaderRules
from appliance.api.structs import Sandbox
from appliance.claims.delivery import secret_name
from appliance.claims.errors import InitFailed, NetworkRefused
from appliance.claims.newborn import system_key
from appliance.claims.runtime_client import Line, RuntimeClient
from appliance.kube import errors
from appliance.kube.cluster import Cluster

NETWORK_TIMEOUT = 10.0
"""Seconds for the node to confirm a pod's network policy."""


def init_body(
    token: str | None, env: Mapping[str, str], sandbox: Sandbox, sandbox_id: str, rules: HeaderRules | None = None
) -> dict[str, Any]:
    """Body of /init. The ``E2B_`` variables are what code inside a sandbox of the original service finds.

    Of header rules the sandbox learns whom to trust, and nothing else.
    """
    template = sandbox.meta.labels.get(labels.TEMPLATE, "")
    own = {
        "E2B_SANDBOX": "true",
        "E2B_SANDBOX_ID": sandbox_id,
        "E2B_TEMPLATE_ID": template,
    }
    body: dict[str, Any] = {"envVars": {**env, **own}, "timestamp": times.format(times.now(), micro=True)}
    if token:
        body["accessToken"] = token
    if rules is not None:
        body["caBundle"] = rules.authority.certificate
    return body


def trust_body(token: str | None, rules: HeaderRules | None) -> dict[str, Any]:
    """Body of an /init that changes whom the sandbox trusts, and nothing else."""
    body: dict[str, Any] = {"timestamp": times.format(times.now(), micro=True), "caBundle": ""}
    if token:
        body["accessToken"] = token
    if rules is not None:
        body["caBundle"] = rules.authority.certificate
    return body


def pod_labels(sandbox: Sandbox) -> dict[str, str]:
    """Labels a delivered sandbox gives its pod: the user's, the owner, and the network switch."""
    found = sandbox.meta.labels
    result = {key: value for key, value in found.items() if not system_key(key)}
    if labels.ALLOW_INTERNET in found:
        result[labels.ALLOW_INTERNET] = found[labels.ALLOW_INTERNET]
    owner = sandbox.meta.annotations.get(labels.OWNER)
    if owner:
        result[labels.OWNER] = owner
    return result


async def personalise(
    cluster: Cluster,
    runtime: RuntimeClient,
    sandbox: Sandbox,
    *,
    body: Mapping[str, Any] | None,
    token: str | None,
    env: Mapping[str, str],
    user_labels: Mapping[str, str],
    init_timeout: float,
    line: Line | None = None,
) -> None:
    """Do all of it. ``body`` None skips /init. ``user_labels`` are those of the claim; empty ones cost no pod write.

    ``line``: a connection to the runtime, if one was begun before.

    Raises InitFailed or KubeError.
    """
    work: list[Coroutine[Any, Any, None]] = []
    if body is not None:
        work.append(runtime.init(sandbox.status.sandbox_ip, body, token, timeout=init_timeout, line=line))
    if env:
        work.append(_keep_environment(cluster, sandbox, env))
    closed = bool(egress_of(sandbox.meta.labels, sandbox.meta.annotations))
    if closed or any(not system_key(key) or key == labels.ALLOW_INTERNET for key in user_labels):
        work.append(dress_pod(cluster, sandbox))
    await _all(work)


async def _all(work: list[Coroutine[Any, Any, None]]) -> None:
    if len(work) == 1:
        await work[0]
        return
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in work:
                group.create_task(coroutine)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _keep_environment(cluster: Cluster, sandbox: Sandbox, env: Mapping[str, str]) -> None:
    name = secret_name(sandbox.name)
    data = {"envVars": base64.b64encode(msgspec.json.encode(dict(env))).decode()}
    owner = sandbox.as_owner
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": sandbox.namespace, "ownerReferences": [owner]},
        "type": "Opaque",
        "data": data,
    }
    try:
        await cluster.create(kinds.SECRET, sandbox.namespace, body)
    except errors.AlreadyExists:
        patch = {"metadata": {"ownerReferences": [owner]}, "data": data}
        await cluster.patch(kinds.SECRET, sandbox.namespace, name, patch)


async def stored_environment(cluster: Cluster, sandbox: Sandbox) -> dict[str, str]:
    """The environment variables kept for this sandbox; empty when none were given.

    Raises KubeError, and InitFailed when the Secret is not what ``personalise`` writes.
    """
    try:
        secret = await cluster.get(kinds.SECRET, sandbox.namespace, secret_name(sandbox.name))
    except errors.NotFound:
        return {}
    try:
        return msgspec.json.decode(base64.b64decode(secret.data.get("envVars", "")), type=dict[str, str])
    except (ValueError, msgspec.DecodeError) as error:
        name = secret_name(sandbox.name)
        raise InitFailed(f"Secret {name}, data.envVars: expected base64 of a JSON object: {error}") from error


async def dress_pod(cluster: Cluster, sandbox: Sandbox) -> None:
    """Give the pod its sandbox's labels and egress policy, and wait until the node enforces the policy.

    Raises InitFailed when the node does not confirm in time, NetworkRefused when it never will, KubeError.
    """
    own, annotations = sandbox.meta.labels, sandbox.meta.annotations
    patch = {
        "labels": {labels.ALLOW_INTERNET: None, **pod_labels(sandbox)},
        "annotations": {labels.EGRESS: annotations.get(labels.EGRESS)},
    }
    pod = await cluster.patch(kinds.POD, sandbox.namespace, sandbox.name, {"metadata": patch})
    wanted = egress_of(own, annotations)
    if not _enforced(pod, wanted):
        await _await_enforced(cluster, pod, wanted)


def _enforced(pod: Pod, egress: Egress) -> bool:
    found = conditions.find(pod.status.conditions, labels.CONDITION_NETWORK)
    if found is None:
        return not egress  # a node that does not say is one where nothing was ever closed
    if found.status == "False" and found.reason == UNENFORCEABLE and egress:
        raise NetworkRefused(f"network restrictions are not supported where this sandbox runs: {found.message}")
    return found.status == "True" and found.reason == reason(egress)


async def _await_enforced(cluster: Cluster, pod: Pod, egress: Egress) -> None:
    """Watch that one pod; a sandbox that must not reach something is not handed out on a promise."""
    selector = f"metadata.name={pod.name}"
    try:
        async with asyncio.timeout(NETWORK_TIMEOUT):
            stream = cluster.watch(
                kinds.POD, pod.namespace, resource_version=pod.meta.resource_version, field_selector=selector
            )
            async with aclosing(stream) as events:
                async for event in events:
                    if event.type != "BOOKMARK" and _enforced(event.object, egress):
                        return
    except TimeoutError:
        pass
    raise InitFailed(f"the node of pod {pod.name} did not confirm its network policy in {NETWORK_TIMEOUT:g} s")
