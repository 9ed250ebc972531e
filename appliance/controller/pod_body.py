"""The pod of a sandbox, built from its template.

Every container with a literal ``AGENT_RUNTIME_WORKSPACE`` gets the hook that starts the runtime there; a hook it
already has is chained behind it. Sandboxes run untrusted code, so no service-account token is mounted.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.api import labels
from appliance.api.structs import RuntimeRef, Sandbox
from appliance.claims.personalise import pod_labels
from appliance.controller.injection import inject
from appliance.controller.inplace import immutable_part
from appliance.controller.revision import TemplateProblem


def pod_body(
    sandbox: Sandbox,
    template: Mapping[str, Any],
    volume_claims: Sequence[Mapping[str, Any]],
    *,
    template_hash: str,
    runtime_image: str | None,
    runtimes: Sequence[RuntimeRef] = (),
) -> dict[str, Any]:
    """Body of the pod. ``template`` is a PodTemplateSpec, ``volume_claims`` are PVC templates.

    ``runtimes`` are injected. Raises TemplateProblem naming the field that makes a pod impossible.
    """
    spec = copy.deepcopy(dict(template.get("spec") or {}))
    containers = spec.get("containers")
    if not isinstance(containers, list) or not containers:
        raise TemplateProblem("template.spec.containers: expected at least one container")
    inject(spec, runtimes, runtime_image)
    for number, container in enumerate(containers):
        _start_runtime(container, f"template.spec.containers[{number}]")
    if runtime_image:
        _replace_image(spec.get("initContainers") or [], runtime_image)
    spec["automountServiceAccountToken"] = False
    _add_volumes(spec, sandbox.name, volume_claims)
    metadata = _metadata(sandbox, template.get("metadata") or {}, template_hash)
    metadata["annotations"][labels.HASH_IMMUTABLE] = immutable_part(template)
    return {"metadata": metadata, "spec": spec}


def wants_runtime(template: Mapping[str, Any]) -> bool:
    """Whether any container of a PodTemplateSpec gets the runtime."""
    return any(_workspace(container) for container in (template.get("spec") or {}).get("containers") or [])


def _metadata(sandbox: Sandbox, template: Mapping[str, Any], template_hash: str) -> dict[str, Any]:
    own = {
        labels.CREATED_BY: labels.CREATED_BY_SANDBOX,
        labels.SANDBOX_NAME: sandbox.name,
        labels.POD_TEMPLATE_HASH: template_hash,
    }
    owner = {
        "apiVersion": labels.API_VERSION,
        "kind": "Sandbox",
        "name": sandbox.name,
        "uid": sandbox.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    egress = sandbox.meta.annotations.get(labels.EGRESS)
    policy = {labels.EGRESS: egress} if egress else {}
    return {
        "name": sandbox.name,
        "namespace": sandbox.namespace,
        "labels": {**(template.get("labels") or {}), **pod_labels(sandbox), **own},
        "annotations": {**(template.get("annotations") or {}), **policy, labels.CREATED_BY: labels.CREATED_BY_SANDBOX},
        "ownerReferences": [owner],
    }


def _workspace(container: Mapping[str, Any]) -> str:
    """The mount path of the runtime's volume in that container; empty when it wants no runtime."""
    for variable in container.get("env") or []:
        if variable.get("name") == labels.WORKSPACE_ENV:
            return str(variable.get("value") or "").rstrip("/")
    return ""


def _start_runtime(container: dict[str, Any], path: str) -> None:
    workspace = _workspace(container)
    if not workspace:
        return
    start = [f"{workspace}/{labels.RUNTIME_ENTRY}", "start"]
    lifecycle = container.setdefault("lifecycle", {})
    existing = lifecycle.get("postStart") or {}
    command = (existing.get("exec") or {}).get("command") or []
    if command and str(command[0]).endswith("/" + labels.RUNTIME_ENTRY):
        return
    if existing and not command:
        found = ", ".join(sorted(existing))
        raise TemplateProblem(f"{path}.lifecycle.postStart: expected exec (the runtime is chained to it), got {found}")
    lifecycle["postStart"] = {"exec": {"command": [*start, "--", *command] if command else start}}


def _replace_image(containers: Sequence[dict[str, Any]], image: str) -> None:
    for container in containers:
        if _workspace(container):
            container["image"] = image
            _place_runtime(container)


def _place_runtime(container: dict[str, Any]) -> None:
    """A sidecar places the runtime and stays; its hook ends when that is done, and only then does the kubelet start the
    next container, whose own hook needs the runtime.

    An init container that is no sidecar has to end instead.
    """
    inject = [labels.IMAGE_PROGRAM, "inject"]
    container.pop("command", None)
    if container.get("restartPolicy") == "Always":
        # a hook, not a startup probe: on a busy node a probe's attempts time out one by one and add to its load
        container.setdefault("lifecycle", {})["postStart"] = {"exec": {"command": [*inject, "--await"]}}
    else:
        container["command"] = [*inject, "--once"]
    container.pop("args", None)  # of another program


def _add_volumes(spec: dict[str, Any], sandbox_name: str, claims: Sequence[Mapping[str, Any]]) -> None:
    """A volume per claim template, in place of one of the same name, as a StatefulSet does it."""
    if not claims:
        return
    names = {claim_template_name(claim, number) for number, claim in enumerate(claims)}
    kept = [volume for volume in spec.get("volumes") or [] if volume.get("name") not in names]
    added = [
        {"name": name, "persistentVolumeClaim": {"claimName": claim_name(name, sandbox_name)}} for name in sorted(names)
    ]
    spec["volumes"] = [*kept, *added]


def claim_template_name(claim: Mapping[str, Any], number: int) -> str:
    """Name of a PVC template. Raises TemplateProblem when it has none."""
    name = (claim.get("metadata") or {}).get("name")
    if not name:
        raise TemplateProblem(f"volumeClaimTemplates[{number}].metadata.name: expected a name, got none")
    return str(name)


def claim_name(template_name: str, sandbox_name: str) -> str:
    """Name of a sandbox's PVC."""
    return f"{template_name}-{sandbox_name}"


def claim_bodies(sandbox: Sandbox, claims: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The PVCs of a sandbox, owned by it so that they end with it. Raises TemplateProblem."""
    bodies = []
    for number, claim in enumerate(claims):
        template = claim.get("metadata") or {}
        spec = {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", **(claim.get("spec") or {})}
        meta = {
            "name": claim_name(claim_template_name(claim, number), sandbox.name),
            "namespace": sandbox.namespace,
            "labels": {**(template.get("labels") or {}), labels.SANDBOX_NAME: sandbox.name},
            "annotations": template.get("annotations") or {},
            "ownerReferences": [sandbox.as_owner],
        }
        bodies.append({"metadata": meta, "spec": spec})
    return bodies
