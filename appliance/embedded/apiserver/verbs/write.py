"""POST and PUT: create and replace, scale included."""

from __future__ import annotations

from aiohttp import web

from appliance.embedded.apiserver.backend import Backend, Call
from appliance.embedded.apiserver.bodies import media_type, parse_object, read_body
from appliance.embedded.apiserver.resources import Resource
from appliance.embedded.apiserver.responses import json_value
from appliance.embedded.apiserver.status import bad_request, conflict, method_not_allowed, not_found
from appliance.embedded.apiserver.store.record import Record
from appliance.embedded.apiserver.verbs import reviews, scale, writer
from appliance.embedded.apiserver.verbs.read import present


async def create(backend: Backend, call: Call) -> web.StreamResponse:
    """Answers 201 with the stored object once it is durable."""
    res = call.resource
    if call.name is not None or call.subresource is not None:
        raise method_not_allowed(
            res, "POST is only for collections: the server does not allow this method on the requested resource"
        )
    obj = parse_object(await read_body(call.http, backend.settings.max_body), media_type(call.http))
    writer.check_identity(call, obj)
    if res.key in reviews.REVIEWS:
        return json_value(reviews.answer(call.user, obj), code=201)
    namespace = call.namespace
    if res.namespaced and namespace is None:
        raise bad_request("an empty namespace may not be set during creation")
    outcome = writer.create(backend, res, namespace, obj, writer.options(call), call.warnings)
    return present(call, await outcome.durable(), code=201)


async def replace(backend: Backend, call: Call) -> web.StreamResponse:
    """PUT of an object, its status, or its scale; a missing object is 404 (no create on update)."""
    obj = parse_object(await read_body(call.http, backend.settings.max_body), media_type(call.http))
    if call.subresource == "scale":
        return await scale.replace(backend, call, obj)
    writer.check_identity(call, obj)
    record = staged(backend, call)
    old = record.object()
    if call.subresource == "finalize":
        spec = {"spec": obj.get("spec") or {}}
        obj = record.object() | spec
    outcome = writer.update(
        backend,
        call.resource,
        record,
        old,
        obj,
        writer.options(call),
        subresource=call.subresource,
        warnings=call.warnings,
    )
    return present(call, await outcome.durable())


def staged(backend: Backend, call: Call) -> Record:
    """The object a write builds on; ApiStatus 404."""
    if call.name is None:
        raise method_not_allowed(call.resource, "the server does not allow this method on the requested resource")
    record = backend.store.peek(call.resource.key, call.namespace or "", call.name)
    if record is None:
        raise not_found(call.resource, call.name)
    return record


def check_preconditions(res: Resource, record: Record, uid: object, version: object) -> None:
    """ApiStatus 409 when a precondition names another uid or resourceVersion."""
    if uid is not None and uid != record.uid:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {record.uid}"
        raise conflict(res, record.name, why)
    if version is not None and str(version) != str(record.version):
        why = f"Precondition failed: ResourceVersion in precondition: {version}, in object meta: {record.version}"
        raise conflict(res, record.name, why)
