"""OpenAPI documents, good enough for ``kubectl explain``, ``apply``, ``diff`` and ``edit``.

v3: one document per group and version, with paths (kubectl looks up kinds and the fieldValidation parameter there) and
the schemas they need. v2: all definitions in one document as JSON. As protobuf, which kubectl asks for only when a
manifest names a kind that v3 does not have, a valid document without definitions: kubectl then says that there is no
such kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from aiohttp import web

from appliance.embedded.apiserver.resources import Registry, Resource
from appliance.embedded.apiserver.responses import json_bytes
from appliance.embedded.apiserver.schema.core import CoreField, core_types
from appliance.embedded.apiserver.schema.docs import describe
from appliance.embedded.apiserver.status import not_acceptable, unknown_path
from appliance.embedded.apiserver.store.record import encode

Document = dict[str, Any]
_PROTOBUF_ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
_PROTOBUF_GIVEN = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""client-go accepts only the former for ``/openapi/v2``; its ``@`` is no legal media type, so answers have a dot."""
_V3 = "#/components/schemas/"
_V2 = "#/definitions/"
_SCALARS: dict[str, Document] = {
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "number": {"type": "number", "format": "double"},
    "integer": {"type": "integer"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "byte": {"type": "string", "format": "byte"},
    "date-time": {"type": "string", "format": "date-time"},
    "micro-time": {"type": "string", "format": "date-time"},
    "quantity": {"type": "string", "x-kubernetes-int-or-string": True},
    "int-or-string": {"x-kubernetes-int-or-string": True},
    "any": {"x-kubernetes-preserve-unknown-fields": True},
    "any-object": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}


def serve(registry: Registry, http: web.BaseRequest) -> web.Response:
    """Answers ``/openapi/v2``, ``/openapi/v3`` and ``/openapi/v3/…``."""
    accept = http.headers.get("Accept", "*/*")
    if _PROTOBUF_ASKED in accept and http.path.rstrip("/") == "/openapi/v2":
        return json_bytes(_v2_protobuf(), media=_PROTOBUF_GIVEN)
    if not any(word in accept for word in ("application/json", "*/*", "application/*")):
        raise not_acceptable("application/json")
    path = http.path.rstrip("/")
    body = _documents(registry, registry.generation).get(path)
    if body is None:
        raise unknown_path(path)
    return json_bytes(body)


@lru_cache(maxsize=2)
def _documents(registry: Registry, _generation: int) -> dict[str, bytes]:
    """Every document by its path, made once per change of the registry."""
    found: dict[str, bytes] = {}
    index: Document = {}
    for group, versions in registry.groups().items():
        for version in versions:
            place = f"apis/{group}/{version}" if group else f"api/{version}"
            members = [r for r in registry.all() if (r.group, r.version) == (group, version)]
            body = encode(_v3(members))
            found[f"/openapi/v3/{place}"] = body
            digest = hashlib.sha256(body).hexdigest().upper()[:32]
            index[place] = {"serverRelativeURL": f"/openapi/v3/{place}?hash={digest}"}
    found["/openapi/v3"] = encode({"paths": index})
    found["/openapi/v2"] = encode(_v2(registry.all()))
    return found


def _v2_protobuf() -> bytes:
    """A ``openapi.v2.Document`` (gnostic's OpenAPIv2.proto): swagger 1, info 2 {title 1, version 2}, paths 8."""

    def field(number: int, value: bytes) -> bytes:
        return bytes((number << 3 | 2, len(value))) + value  # every value here is shorter than 128 bytes

    info = field(1, _info()["title"].encode()) + field(2, _info()["version"].encode())
    return field(1, b"2.0") + field(2, info) + field(8, b"")


def _info() -> Document:
    return {"title": "Kubernetes (appliance embedded cluster)", "version": "v1.36.3"}


def _v3(members: Iterable[Resource]) -> Document:
    schemas: Document = {}
    paths: Document = {}
    for res in members:
        name = _schema_name(res)
        schemas[name] = _root_schema(res, _V3, schemas)
        for path, item in _paths(res, {"schema": {"$ref": _V3 + name}}):
            paths[path] = item
    return {"openapi": "3.0.0", "info": _info(), "paths": paths, "components": {"schemas": schemas}}


def _v2(members: Iterable[Resource]) -> Document:
    definitions: Document = {}
    for res in members:
        definitions[_schema_name(res)] = _root_schema(res, _V2, definitions)
    return {"swagger": "2.0", "info": _info(), "paths": {}, "definitions": definitions}


def _schema_name(res: Resource) -> str:
    if res.custom:
        return ".".join([*reversed(res.group.split(".")), res.version, res.kind])
    return f"io.k8s.api.{_core_name(res)}"


def _core_name(res: Resource) -> str:
    return str(res.schema.name) if res.schema else ""


def _root_schema(res: Resource, prefix: str, schemas: Document) -> Document:
    kind = {"group": res.group, "version": res.version, "kind": res.kind}
    if res.custom:
        schema = dict(res.openapi or {})
        properties = dict(schema.get("properties") or {})
        metadata = {"allOf": [{"$ref": _reference("meta.v1.ObjectMeta", prefix, schemas)}]}
        schema["properties"] = properties | {"metadata": metadata | {"description": "Standard object metadata."}}
    else:
        schema = _type_schema(_core_name(res), prefix, schemas)
    return schema | {"x-kubernetes-group-version-kind": [kind]}


def _reference(name: str, prefix: str, schemas: Document) -> str:
    """A ``$ref`` to a core type, which is added to ``schemas`` when it is not there."""
    full = f"io.k8s.api.{name}"
    if full not in schemas:
        schemas[full] = {}
        schemas[full] = _type_schema(name, prefix, schemas)
    return prefix + full


def _type_schema(name: str, prefix: str, schemas: Document) -> Document:
    fields = core_types()[name]
    if isinstance(fields, str):
        return dict(_SCALARS[fields])
    schema: Document = {"type": "object", "description": describe(name)}
    schema["properties"] = {item.name: _field_schema(name, item, prefix, schemas) for item in fields}
    required = [item.name for item in fields if item.required]
    return schema | ({"required": required} if required else {})


def _field_schema(owner: str, item: CoreField, prefix: str, schemas: Document) -> Document:
    schema = _kind_schema(item.type, prefix, schemas)
    if "$ref" in schema and prefix == _V3:
        schema = {"allOf": [schema]}
    if prefix == _V3 or "$ref" not in schema:
        schema["description"] = describe(f"{owner}.{item.name}")
    options = item.options
    if "keys" in options:
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": options["keys"].split(",")}
    elif item.type.startswith("[]"):
        schema["x-kubernetes-list-type"] = "set" if "set" in options else "atomic"
    if "merge" in options:
        schema["x-kubernetes-patch-strategy"] = "merge,retainKeys" if "retain" in options else "merge"
        if options["merge"]:
            schema["x-kubernetes-patch-merge-key"] = options["merge"]
    return schema


def _kind_schema(kind: str, prefix: str, schemas: Document) -> Document:
    if kind in _SCALARS:
        return dict(_SCALARS[kind])
    if kind.startswith("[]"):
        return {"type": "array", "items": _kind_schema(kind[2:], prefix, schemas)}
    if kind.startswith("map:"):
        return {"type": "object", "additionalProperties": _kind_schema(kind[4:], prefix, schemas)}
    return {"$ref": _reference(kind, prefix, schemas)}


_QUERY = ("dryRun", "fieldManager", "fieldValidation")


def _paths(res: Resource, body: Document) -> list[tuple[str, Document]]:
    """The collection's and the item's path with the operations kubectl looks for."""
    kind = {"group": res.group, "version": res.version, "kind": res.kind}
    base = f"/apis/{res.group}/{res.version}" if res.group else f"/api/{res.version}"
    collection = f"{base}/namespaces/{{namespace}}/{res.plural}" if res.namespaced else f"{base}/{res.plural}"

    def operation(action: str) -> Document:
        made: Document = {
            "operationId": f"{action}{res.kind}",
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
            "responses": {"200": {"description": "OK", "content": {"application/json": body}}},
        }
        if action in ("post", "put", "patch"):
            made["parameters"] = [
                {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}} for name in _QUERY
            ]
            media = ("application/json",) if action != "patch" else _patch_media(res)
            made["requestBody"] = {"content": {name: body if action != "patch" else {} for name in media}}
        return made

    item = {verb: operation(verb) for verb in ("get", "put", "patch", "delete")}
    if res.verbs == ("create",):
        return [(collection, {"post": operation("post")})]
    return [(collection, {"get": operation("list"), "post": operation("post")}), (collection + "/{name}", item)]


def _patch_media(res: Resource) -> tuple[str, ...]:
    common = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
    return common if res.custom else (*common, "application/strategic-merge-patch+json")
