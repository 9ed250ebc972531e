"""The scale subresource: a ``Scale`` object read from and written to the paths the CRD names."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from appliance.embedded.apiserver.backend import Backend, Call
from appliance.embedded.apiserver.resources import Resource, ScaleSpec
from appliance.embedded.apiserver.responses import json_value
from appliance.embedded.apiserver.status import FieldError, bad_request, invalid, not_found
from appliance.embedded.apiserver.store.record import Record
from appliance.embedded.apiserver.verbs import writer


def _spec(res: Resource) -> ScaleSpec:
    if res.scale is None:
        raise bad_request(f"{res.qualified} has no scale subresource")
    return res.scale


def scale_of(res: Resource, obj: dict[str, Any]) -> dict[str, Any]:
    """The ``autoscaling/v1`` Scale of a decoded object."""
    paths = _spec(res)
    meta = obj["metadata"]
    kept = {
        key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if key in meta
    }
    status: dict[str, Any] = {"replicas": _get(obj, paths.status_replicas) or 0}
    selector = _get(obj, paths.selector) if paths.selector else None
    if selector:
        status["selector"] = selector
    spec = {"replicas": _get(obj, paths.spec_replicas) or 0}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept, "spec": spec, "status": status}


def _get(obj: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj


def read(call: Call, record: Record) -> web.StreamResponse:
    """GET …/scale."""
    return json_value(scale_of(call.resource, record.object()))


async def replace(backend: Backend, call: Call, body: dict[str, Any]) -> web.StreamResponse:
    """PUT …/scale: sets the replicas; a stale resourceVersion is 409."""
    res = call.resource
    record = backend.store.peek(res.key, call.namespace or "", call.name or "")
    if record is None:
        raise not_found(res, call.name or "")
    return await write(backend, call, record, body)


async def write(backend: Backend, call: Call, record: Record, body: dict[str, Any]) -> web.StreamResponse:
    """Stores ``body.spec.replicas`` in the object of ``record``."""
    res = call.resource
    replicas = (body.get("spec") or {}).get("replicas", 0)
    if type(replicas) is not int or replicas < 0:
        text = f"Invalid value: {replicas}: should be greater than or equal to 0"
        raise invalid(res, record.name, [FieldError("spec.replicas", "FieldValueInvalid", text)])
    old, new = record.object(), record.object()
    target = new
    *parents, last = _spec(res).spec_replicas
    for key in parents:
        target = target.setdefault(key, {})
    target[last] = replicas
    meta = body.get("metadata") or {}
    new["metadata"]["resourceVersion"] = meta.get("resourceVersion") or str(record.version)
    outcome = writer.update(backend, res, record, old, new, writer.options(call), warnings=call.warnings)
    return json_value(scale_of(res, (await outcome.durable()).object()))
