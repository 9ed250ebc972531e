"""The one way objects change: check, admit, guard, stage.

Everything from reading the staged object to staging its successor is synchronous; only waiting for the disk is not. So
two writers never interleave, and a stale ``resourceVersion`` is always seen.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from appliance.embedded.apiserver.backend import Backend, Call
from appliance.embedded.apiserver.objects import meta as rules
from appliance.embedded.apiserver.objects.hooks import HOOKS, NO_HOOKS
from appliance.embedded.apiserver.objects.meta import Object
from appliance.embedded.apiserver.patches.managed import track_update
from appliance.embedded.apiserver.resources import Resource
from appliance.embedded.apiserver.schema.check import show_value
from appliance.embedded.apiserver.status import (
    FieldError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
)
from appliance.embedded.apiserver.store.record import Record, make_record
from appliance.embedded.apiserver.verbs.checking import Options, check_schema, validate

NAMESPACES = "namespaces"


@dataclass(slots=True)
class Outcome:
    """A staged change. ``record`` is the new version; ``done`` None when nothing needed writing (or a dry run)."""

    record: Record
    done: asyncio.Future[None] | None = None
    deleted: bool = False

    async def durable(self) -> Record:
        """Waits for the disk. The change happens even when the waiter is cancelled."""
        if self.done is not None:
            await asyncio.shield(self.done)
        return self.record


def options(call: Call) -> Options:
    """The write options of a request; ApiStatus 400 for values that are not defined."""
    query = call.query
    dry = query.get("dryRun")
    if dry not in (None, "", "All"):
        raise bad_request(f'dryRun: Unsupported value: "{dry}": supported values: "All"')
    validation = query.get("fieldValidation") or "Warn"
    if validation not in ("Ignore", "Warn", "Strict"):
        raise bad_request(
            f'fieldValidation: Unsupported value: "{validation}": supported values: "", "Ignore", "Strict", "Warn"'
        )
    manager = query.get("fieldManager") or call.http.headers.get("User-Agent", "unknown").split("/")[0]
    return Options(dry == "All", manager[:128], validation)


def check_identity(call: Call, obj: Object) -> None:
    """The body's kind, apiVersion and namespace must be those of the path; ApiStatus 400 naming the difference."""
    res = call.resource
    if res.custom and not (obj.get("kind") and obj.get("apiVersion")):
        absent = "Kind" if not obj.get("kind") else "apiVersion"
        raise bad_request(
            f"the object provided is unrecognized (must be of type {res.kind}): "
            f"Object '{absent}' is missing in '{show_value(obj)}'"
        )
    if obj.get("kind", res.kind) != res.kind or obj.get("apiVersion", res.api_version) != res.api_version:
        raise bad_request(
            f"the object's kind {obj.get('kind')!r} in version {obj.get('apiVersion')!r} does not match the expected "
            f"{res.kind!r} in {res.api_version!r}"
        )
    obj["kind"], obj["apiVersion"] = res.kind, res.api_version
    metadata = obj.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise bad_request(f"metadata: expected an object, got {type(metadata).__name__}")
    namespace = metadata.get("namespace")
    if call.namespace is not None and namespace not in (None, "", call.namespace):
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if not res.namespaced and namespace:
        metadata.pop("namespace")


def create(
    backend: Backend, res: Resource, namespace: str | None, obj: Object, opts: Options, warnings: list[str],
    managed: list[Any] | None = None,
) -> Outcome:  # fmt: skip
    """Stages a new object; ApiStatus when it may not be (invalid, already there, namespace missing or going).

    ``managed``: its managedFields, when it is made by server-side apply.
    """
    store = backend.store
    metadata = obj["metadata"]
    if namespace is not None:
        check_namespace(backend, res, namespace, metadata.get("name"))
    rules.stamp_new(obj, namespace)
    name = _choose_name(backend, res, namespace or "", metadata)
    walk = check_schema(res, obj, None, opts, warnings)
    hooks = HOOKS.get(res.key, NO_HOOKS)
    if "status" in res.subresources:
        obj.pop("status", None)
    if hooks.create is not None:
        hooks.create(obj, backend.settings.node_name)
    if res.custom or res.key == "pods":
        metadata["generation"] = 1
    if managed is not None:
        metadata["managedFields"] = managed
    validate(res, walk, obj, None, None)
    if store.peek(res.key, namespace or "", name) is not None:
        raise already_exists(res, name)
    return _stage(backend, res, "ADDED", obj, opts)


def _choose_name(backend: Backend, res: Resource, namespace: str, metadata: dict[str, Any]) -> str:
    name = metadata.get("name")
    prefix = metadata.get("generateName")
    if not name and isinstance(prefix, str) and prefix:
        for _ in range(8):
            name = rules.generated_name(prefix)
            if backend.store.peek(res.key, namespace, name) is None:
                break
        metadata["name"] = name
    if not isinstance(name, str) or not name:
        text = "Required value: name or generateName is required"
        raise invalid(res, "", [FieldError("metadata.name", "FieldValueRequired", text)])
    return name


def check_namespace(backend: Backend, res: Resource, namespace: str, name: str | None) -> None:
    """ApiStatus 404 when the namespace does not exist, 403 when it is being deleted."""
    record = backend.store.peek(NAMESPACES, "", namespace)
    if record is None:
        owner = backend.registry.by_key(NAMESPACES)
        raise not_found(owner or res, namespace)
    if record.deleting:
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
        raise forbidden(res, name, why, [cause])


def update(
    backend: Backend, res: Resource, record: Record, old: Object, new: Object, opts: Options, *,
    subresource: str | None = None, warnings: list[str] | None = None, tracked: bool = False,
) -> Outcome:  # fmt: skip
    """Stages ``new`` in place of ``old`` (the decoded ``record``, which must be the staged one).

    ``tracked``: managedFields are already those of the new version (server-side apply).
    """
    _guard(res, record, new)
    rules.restore_server_set(old, new)
    _separate(res, old, new, subresource)
    walk = check_schema(res, new, old, opts, warnings if warnings is not None else [])
    hooks = HOOKS.get(res.key, NO_HOOKS)
    if hooks.update is not None:
        hooks.update(old, new, subresource)
    _finalizers_only_shrink(res, old, new)
    validate(res, walk, new, old, subresource)
    if not tracked:
        track_update(res, old, new, opts.manager, subresource)
    if new == old:
        return Outcome(record)
    _count_generation(res, old, new)
    if _finished(res, new):
        return _stage(backend, res, "DELETED", new, opts)
    return _stage(backend, res, "MODIFIED", new, opts)


def _guard(res: Resource, record: Record, new: Object) -> None:
    metadata = new.get("metadata")
    if not isinstance(metadata, dict):
        raise bad_request("metadata: expected an object")
    if metadata.get("name", record.name) != record.name:
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({record.name})"
        )
    if metadata.get("namespace", record.namespace) not in (record.namespace, ""):
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    metadata["name"] = record.name
    if record.namespace:
        metadata["namespace"] = record.namespace
    version = metadata.get("resourceVersion")
    if version and str(version) != str(record.version):
        raise conflict(res, record.name)
    uid = metadata.get("uid")
    if uid and uid != record.uid:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {record.uid}"
        raise conflict(res, record.name, why)
    metadata["resourceVersion"] = str(record.version)
    new["kind"], new["apiVersion"] = res.kind, res.api_version


def _separate(res: Resource, old: Object, new: Object, subresource: str | None) -> None:
    """Status writes change only status; other writes never do (where status is a subresource)."""
    if subresource == "status":
        for key in [key for key in new if key not in ("status", "metadata")]:
            if key not in old:
                del new[key]
        for key, value in old.items():
            if key != "status":
                new[key] = value
        owned = {key: new["metadata"][key] for key in ("managedFields",) if key in new["metadata"]}
        new["metadata"] = {**old["metadata"], **owned}
    elif "status" in res.subresources:
        if "status" in old:
            new["status"] = old["status"]
        else:
            new.pop("status", None)


def _finalizers_only_shrink(res: Resource, old: Object, new: Object) -> None:
    if "deletionTimestamp" not in old["metadata"]:
        return
    added = set(new["metadata"].get("finalizers") or ()) - set(old["metadata"].get("finalizers") or ())
    if added:
        text = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
        text += str(sorted(added))
        raise invalid(res, old["metadata"]["name"], [FieldError("metadata.finalizers", "FieldValueForbidden", text)])


def _count_generation(res: Resource, old: Object, new: Object) -> None:
    if not res.custom and res.key != "pods":
        return
    ignored = ("metadata", "status") if "status" in res.subresources else ("metadata",)
    keys = (old.keys() | new.keys()).difference(ignored)
    if any(old.get(key) is not new.get(key) and old.get(key) != new.get(key) for key in keys):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def _finished(res: Resource, new: Object) -> bool:
    """Whether a deleting object has nothing left that holds it."""
    metadata = new["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if res.key == NAMESPACES:
        return not (new.get("spec") or {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")


def _stage(backend: Backend, res: Resource, kind: str, obj: Object, opts: Options) -> Outcome:
    version = backend.store.version if opts.dry_run else backend.store.reserve()
    if not (opts.dry_run and kind != "ADDED"):
        obj["metadata"]["resourceVersion"] = str(version)
    if opts.dry_run and kind == "ADDED":
        obj["metadata"].pop("resourceVersion", None)
    record = make_record(res.key, obj, version, res.selectable)
    if opts.dry_run:
        return Outcome(record, deleted=kind == "DELETED")
    return Outcome(record, backend.store.stage(kind, record), kind == "DELETED")


def restage(backend: Backend, res: Resource, obj: Object, opts: Options) -> Outcome:
    """Stages a new version the server itself made (a deletion mark, a removed finalizer): nothing is validated."""
    return _stage(backend, res, "DELETED" if _finished(res, obj) else "MODIFIED", obj, opts)


def remove(backend: Backend, res: Resource, obj: Object, opts: Options) -> Outcome:
    """Stages the end of an object that nothing holds any more."""
    return _stage(backend, res, "DELETED", obj, opts)


__all__ = [
    "NAMESPACES",
    "Options",
    "Outcome",
    "check_identity",
    "check_namespace",
    "create",
    "options",
    "remove",
    "restage",
    "update",
]
