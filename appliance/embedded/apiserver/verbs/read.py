"""GET of one object and of collections: from memory, as objects, tables or metadata only."""

from __future__ import annotations

from aiohttp import web

from appliance.embedded.apiserver.accept import Form, wanted
from appliance.embedded.apiserver.backend import Backend, Call
from appliance.embedded.apiserver.responses import json_bytes, json_value
from appliance.embedded.apiserver.selectors import selector, single_name
from appliance.embedded.apiserver.snapshots import token
from appliance.embedded.apiserver.status import bad_request, gone, not_found, resource_version_too_large
from appliance.embedded.apiserver.store.record import Record, encode
from appliance.embedded.apiserver.tables.table import partial, table
from appliance.embedded.apiserver.verbs import podlogs, scale

MAX_LIMIT = 1 << 31


async def get(backend: Backend, call: Call) -> web.StreamResponse:
    """One object, or what its subresource shows."""
    res = call.resource
    record = backend.store.get(res.key, call.namespace or "", call.name or "")
    if record is None:
        raise not_found(res, call.name or "")
    if call.subresource == "scale":
        return scale.read(call, record)
    if call.subresource in ("log", "exec"):
        return await podlogs.serve(backend, call, record)
    return present(call, record)


def present(call: Call, record: Record, *, code: int = 200) -> web.Response:
    """One object in the form the client asked for."""
    form = wanted(call.http)
    if form is Form.OBJECT:
        return json_bytes(record.body, code=code, warnings=call.warnings)
    if form is Form.TABLE:
        version = str(record.version)
        return json_value(table(call.resource, [record], version, call.query), code=code, warnings=call.warnings)
    return json_value(partial(record.object()), code=code, warnings=call.warnings)


async def list_(backend: Backend, call: Call) -> web.StreamResponse:
    """A collection, or a page of it."""
    records, metadata = _page(backend, call)
    res = call.resource
    form = wanted(call.http)
    if form is Form.TABLE:
        shown = table(res, records, "", call.query)
        shown["metadata"] = metadata
        return json_value(shown)
    if form is Form.METADATA:
        items = [partial(record.object()) for record in records]
        kind = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
        return json_value({**kind, "metadata": metadata, "items": items})
    head = encode({"kind": res.list_kind, "apiVersion": res.api_version, "metadata": metadata})
    return json_bytes(b'%s,"items":[%s]}' % (head[:-1], b",".join([record.body for record in records])))


def _page(backend: Backend, call: Call) -> tuple[list[Record], dict[str, object]]:
    limit = _number(call, "limit")
    text = call.query.get("continue")
    if text:
        name, offset, version, records = backend.snapshots.resume(call.resource.key, text)
    else:
        _check_version(backend, call)
        name, offset, version, records = "", 0, backend.store.version, select(backend, call)
    metadata: dict[str, object] = {"resourceVersion": str(version)}
    end = offset + limit
    if limit and end < len(records):
        keep = backend.snapshots.keep
        metadata["continue"] = token(name, end) if name else keep(call.resource.key, version, records, end)
        metadata["remainingItemCount"] = len(records) - end
        return records[offset:end], metadata
    return records[offset:], metadata


def select(backend: Backend, call: Call) -> list[Record]:
    """The committed objects the call's scope and selectors name."""
    res, query = call.resource, call.query
    test = selector(res, query.get("labelSelector"), query.get("fieldSelector"))
    name = call.name or single_name(res, query.get("fieldSelector"))
    if name is not None and (call.namespace is not None or not res.namespaced):
        record = backend.store.get(res.key, call.namespace or "", name)
        records = [record] if record is not None else []
    else:
        records = backend.store.items(res.key, call.namespace if res.namespaced else None)
    return records if test is None else [record for record in records if test(record)]


def _number(call: Call, field: str) -> int:
    text = call.query.get(field) or "0"
    if not text.isdigit() or int(text) > MAX_LIMIT:
        raise bad_request(f"{field}: Invalid value: {text!r}: must be a non-negative integer")
    return int(text)


def _check_version(backend: Backend, call: Call) -> None:
    """``resourceVersion`` of a list: from the future is 504, an exact past is 410."""
    asked = _number(call, "resourceVersion")
    match = call.query.get("resourceVersionMatch")
    current = backend.store.version
    if asked > current:
        raise resource_version_too_large(asked, current)
    if match == "Exact" and asked != current:
        raise gone(f"The resourceVersion for the provided list is too old: {asked} (current is {current})")
    if match not in (None, "", "Exact", "NotOlderThan"):
        raise bad_request(f"resourceVersionMatch: Unsupported value: {match!r}: supported values: Exact, NotOlderThan")
