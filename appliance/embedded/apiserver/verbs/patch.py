"""PATCH: the four patch formats applied to the staged object; server-side apply may also create."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from appliance.embedded.apiserver.backend import Backend, Call
from appliance.embedded.apiserver.bodies import media_type, parse_json, parse_yaml, read_body
from appliance.embedded.apiserver.objects.meta import Object
from appliance.embedded.apiserver.patches.apply import apply_object
from appliance.embedded.apiserver.patches.jsonpatch import apply_json_patch
from appliance.embedded.apiserver.patches.merge import merge_patch
from appliance.embedded.apiserver.patches.strategic import strategic_merge
from appliance.embedded.apiserver.status import bad_request, not_found, unsupported_media
from appliance.embedded.apiserver.verbs import scale, writer
from appliance.embedded.apiserver.verbs.read import present
from appliance.embedded.apiserver.verbs.write import staged

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


async def patch(backend: Backend, call: Call) -> web.StreamResponse:
    """Answers with the patched object once it is durable."""
    media = media_type(call.http)
    data = await read_body(call.http, backend.settings.max_body)
    if media == APPLY:
        return await _apply(backend, call, data)
    body = parse_json(data)
    record = staged(backend, call)
    old = record.object()
    if call.subresource == "scale":
        target = scale.scale_of(call.resource, old)
        return await scale.write(backend, call, record, _patched(call, media, target, body))
    new = _patched(call, media, old, body)
    outcome = writer.update(
        backend,
        call.resource,
        record,
        old,
        new,
        writer.options(call),
        subresource=call.subresource,
        warnings=call.warnings,
    )
    return present(call, await outcome.durable())


def _patched(call: Call, media: str, old: Object, body: Any) -> Object:
    """``old`` with the patch applied; parts the patch does not touch are shared with it."""
    res = call.resource
    if media == JSON_PATCH:
        if not isinstance(body, list):
            raise bad_request("a JSON patch must be a list of operations")
        new = apply_json_patch(old, body, res, str(call.name))
    elif not isinstance(body, dict):
        raise bad_request(f"a patch must be a JSON object, got {type(body).__name__}")
    elif media == MERGE:
        new = merge_patch(old, body)
    elif media == STRATEGIC and not res.custom:
        new = strategic_merge(res.schema, old, body)
    else:
        supported = (JSON_PATCH, MERGE, APPLY) if res.custom else (JSON_PATCH, MERGE, STRATEGIC, APPLY)
        raise unsupported_media(supported)
    if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
        raise bad_request("the patch must leave an object with metadata")
    if new["metadata"] is old["metadata"]:
        new["metadata"] = dict(old["metadata"])
    return new


async def _apply(backend: Backend, call: Call, data: bytes) -> web.StreamResponse:
    config = parse_yaml(data)
    if not isinstance(config, dict):
        raise bad_request("an apply patch must be an object")
    opts = writer.options(call)
    if "fieldManager" not in call.query:
        raise bad_request("fieldManager is required for apply patch")
    writer.check_identity(call, config)
    if config["metadata"].get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    res = call.resource
    record = backend.store.peek(res.key, call.namespace or "", call.name or "")
    if record is None:
        if call.subresource is not None:
            raise not_found(res, call.name or "")
        return await _apply_new(backend, call, config, opts)
    old = record.object()
    new = apply_object(res, old, config, opts.manager, call.flag("force"), call.subresource)
    outcome = writer.update(
        backend, res, record, old, new, opts, subresource=call.subresource, warnings=call.warnings, tracked=True
    )
    return present(call, await outcome.durable())


async def _apply_new(backend: Backend, call: Call, config: Object, opts: writer.Options) -> web.StreamResponse:
    res = call.resource
    config["metadata"].setdefault("name", call.name)
    if config["metadata"]["name"] != call.name:
        raise bad_request(
            f"the name of the object ({config['metadata']['name']}) does not match the name on the URL ({call.name})"
        )
    managed = apply_object(res, None, config, opts.manager, False, None)["metadata"]["managedFields"]
    outcome = writer.create(backend, res, call.namespace, config, opts, call.warnings, managed)
    return present(call, await outcome.durable(), code=201)
