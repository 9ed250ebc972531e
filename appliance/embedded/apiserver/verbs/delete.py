"""DELETE of one object or a collection: preconditions, grace for pods, finalizers, propagation.

An object nothing holds goes at once. Otherwise it gets a ``deletionTimestamp`` and goes when the last finalizer is
removed; a pod on the node goes when the node deletes it with a grace period of 0.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from aiohttp import web

from appliance.api import labels, podguard
from appliance.api.structs import Sandbox
from appliance.embedded.apiserver.backend import Backend, Call
from appliance.embedded.apiserver.bodies import media_type, parse_object, read_body
from appliance.embedded.apiserver.objects.meta import Object
from appliance.embedded.apiserver.objects.pods import grace_seconds
from appliance.embedded.apiserver.resources import Resource
from appliance.embedded.apiserver.responses import json_value, success
from appliance.embedded.apiserver.status import bad_request, forbidden
from appliance.embedded.apiserver.store.record import Record
from appliance.embedded.apiserver.verbs import writer
from appliance.embedded.apiserver.verbs.read import present, select
from appliance.embedded.apiserver.verbs.write import check_preconditions, staged

PROPAGATION = {"Orphan": "orphan", "Foreground": "foregroundDeletion", "Background": None}
SANDBOXES = f"sandboxes.{labels.GROUP}"
SYSTEM_NAMESPACES = frozenset({"default", "kube-system"})


async def _delete_options(backend: Backend, call: Call) -> dict[str, Any]:
    data = await read_body(call.http, backend.settings.max_body)
    found = parse_object(data, media_type(call.http)) if data else {}
    for field in ("propagationPolicy", "orphanDependents", "gracePeriodSeconds"):
        if field in call.query:
            found[field] = call.query[field]
    grace = found.get("gracePeriodSeconds")
    if grace is not None:
        try:
            found["gracePeriodSeconds"] = int(grace)
        except (TypeError, ValueError):
            raise bad_request(f"gracePeriodSeconds: Invalid value: {grace!r}: must be an integer") from None
    if found.get("propagationPolicy") not in (None, *PROPAGATION):
        shown = ", ".join(PROPAGATION)
        raise bad_request(
            f"propagationPolicy: Unsupported value: {found['propagationPolicy']!r}: supported values: {shown}"
        )
    return found


async def delete(backend: Backend, call: Call) -> web.StreamResponse:
    """One object: 200 with a Status when it is gone, with the object while something holds it."""
    res = call.resource
    how = await _delete_options(backend, call)
    opts = writer.options(call)
    if how.get("dryRun"):
        opts = writer.Options(dry_run=True)
    record = staged(backend, call)
    conditions = how.get("preconditions") or {}
    check_preconditions(res, record, conditions.get("uid"), conditions.get("resourceVersion"))
    guard(backend, call, record)
    outcome = begin(backend, res, record, how, opts)
    final = await outcome.durable()
    if outcome.deleted and not _returns_object(res):
        return json_value(success(res.plural, res.group, final.name, final.uid))
    return present(call, final)


def guard(backend: Backend, call: Call, record: Record) -> None:
    """403 for the pod of somebody's sandbox: the rule that the controllers' webhook has elsewhere."""
    if call.resource.key != "pods" or podguard.exempt(call.user.user, call.user.groups):
        return
    pod = record.object()
    found = podguard.sandbox_of(pod)
    owner = backend.store.peek(SANDBOXES, record.namespace, found[0]) if found is not None else None
    sandbox = msgspec.convert(owner.object(), Sandbox) if owner is not None else None
    if problem := podguard.refusal(pod, sandbox, "delete"):
        raise forbidden(call.resource, record.name, problem)


def _returns_object(res: Resource) -> bool:
    """Pods and a few others answer a delete with the object, as the real server does."""
    return res.key in ("pods", "services", "persistentvolumeclaims", "persistentvolumes", "serviceaccounts")


def begin(backend: Backend, res: Resource, record: Record, how: dict[str, Any], opts: writer.Options) -> writer.Outcome:
    """Stages the deletion of ``record`` (the staged version) with the given DeleteOptions."""
    if res.key == writer.NAMESPACES and record.name in SYSTEM_NAMESPACES:
        raise forbidden(res, record.name, "this namespace may not be deleted")
    obj = record.object()
    metadata = obj["metadata"]
    _propagate(metadata, how)
    grace = grace_seconds(obj, how.get("gracePeriodSeconds")) if res.key == "pods" else 0
    if not metadata.get("finalizers") and not grace and res.key != writer.NAMESPACES:
        _mark(obj, 0)
        return writer.remove(backend, res, obj, opts)
    before = metadata.get("deletionGracePeriodSeconds")
    if "deletionTimestamp" in metadata and (before is None or grace >= before):
        return _unchanged_or_write(backend, res, record, obj, opts)
    _mark(obj, grace)
    if res.key == writer.NAMESPACES:
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
    return writer.restage(backend, res, obj, opts)


def _unchanged_or_write(
    backend: Backend, res: Resource, record: Record, obj: Object, opts: writer.Options
) -> writer.Outcome:
    """A second delete: only a new propagation finalizer is worth a write."""
    return writer.Outcome(record) if obj == record.object() else writer.restage(backend, res, obj, opts)


def _propagate(metadata: dict[str, Any], how: dict[str, Any]) -> None:
    policy = how.get("propagationPolicy")
    if policy is None and how.get("orphanDependents") in (True, "true"):
        policy = "Orphan"
    if policy is None:
        return
    wanted = PROPAGATION[policy]
    kept = [name for name in metadata.get("finalizers") or () if name not in ("orphan", "foregroundDeletion")]
    finalizers = [*kept, wanted] if wanted else kept
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)


def _mark(obj: Object, grace: int) -> None:
    metadata = obj["metadata"]
    instant = datetime.now(UTC) + timedelta(seconds=grace)
    metadata["deletionTimestamp"] = instant.strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata["deletionGracePeriodSeconds"] = grace
    if "generation" in metadata:
        metadata["generation"] += 1


async def delete_collection(backend: Backend, call: Call) -> web.StreamResponse:
    """Every object the scope and selectors name; answers once all deletions are durable."""
    res = call.resource
    if res.namespaced and call.namespace is None:
        raise bad_request("deletecollection needs a namespace")
    if res.key == writer.NAMESPACES:
        raise forbidden(res, None, "namespaces are deleted one by one")
    how = await _delete_options(backend, call)
    opts = writer.options(call)
    outcomes = []
    for record in select(backend, call):
        current = backend.store.peek(*record[:3])
        if current is not None and current.uid == record.uid:
            guard(backend, call, current)
            outcomes.append(begin(backend, res, current, how, opts))
    for outcome in outcomes:
        await outcome.durable()
    return json_value(
        {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": {"kind": res.plural}}
    )
