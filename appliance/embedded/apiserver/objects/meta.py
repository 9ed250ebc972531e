"""Rules for ``metadata``: names, labels, owner references, and what the server alone may set."""

from __future__ import annotations

import re
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

from appliance.embedded.apiserver.resources import Resource
from appliance.embedded.apiserver.schema.core import core_node
from appliance.embedded.apiserver.status import FieldError

Object = dict[str, Any]
META = core_node("meta.v1.ObjectMeta")
SERVER_SET = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
"""Fields a client's update cannot change."""
MAX_ANNOTATIONS = 256 * 1024
"""Bytes of all annotation keys and values of one object."""
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_QUALIFIED = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$")
_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SHORT_NAMES = frozenset({"namespaces", "services"})


def now() -> str:
    """The current instant as Kubernetes writes it (RFC 3339, seconds, UTC)."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_uid() -> str:
    """A random UID."""
    return str(uuid.uuid4())


def generated_name(prefix: str) -> str:
    """A name for ``generateName``: the prefix, cut so that five random characters fit."""
    return prefix[:58] + "".join(secrets.choice(_ALPHABET) for _ in range(5))


def stamp_new(obj: Object, namespace: str | None) -> None:
    """Gives a new object its server-set metadata; what the client sent for it is dropped."""
    meta = obj["metadata"]
    for name in (*SERVER_SET, "selfLink", "resourceVersion", "managedFields"):
        meta.pop(name, None)
    if namespace is not None:
        meta["namespace"] = namespace
    meta["uid"] = new_uid()
    meta["creationTimestamp"] = now()
    tidy(meta)


def tidy(meta: dict[str, Any]) -> None:
    """Drops empty maps and lists, which Kubernetes neither stores nor shows."""
    for name in ("labels", "annotations", "finalizers", "ownerReferences"):
        if name in meta and not meta[name]:
            del meta[name]


def restore_server_set(old: Object, new: Object) -> None:
    """Undoes what an update tried on server-set metadata."""
    before, after = old["metadata"], new["metadata"]
    for name in SERVER_SET:
        if name in before:
            after[name] = before[name]
        else:
            after.pop(name, None)
    after.pop("selfLink", None)
    tidy(after)


def name_problem(res: Resource, name: str) -> str | None:
    """What is wrong with an object name, or None."""
    short = res.key in _SHORT_NAMES
    limit = 63 if short else 253
    if len(name) > limit:
        return f"must be no more than {limit} bytes"
    if short:
        return None if _LABEL.match(name) else _LABEL_TEXT
    return None if _SUBDOMAIN.match(name) else _SUBDOMAIN_TEXT


def validate_meta(res: Resource, meta: dict[str, Any], errors: list[FieldError]) -> None:
    """Appends every wrong part of ``metadata`` (types were checked by the schema)."""
    problem = name_problem(res, meta["name"])
    if problem:
        errors.append(_invalid("metadata.name", meta["name"], problem))
    for key, value in (meta.get("labels") or {}).items():
        _label(key, value, "metadata.labels", errors)
    _annotations(meta.get("annotations") or {}, errors)
    for index, owner in enumerate(meta.get("ownerReferences") or ()):
        missing = [field for field in ("apiVersion", "kind", "name", "uid") if not owner.get(field)]
        errors.extend(_required(f"metadata.ownerReferences[{index}].{field}") for field in missing)
    controllers = [owner for owner in meta.get("ownerReferences") or () if owner.get("controller")]
    if len(controllers) > 1:
        names = " and ".join(f"{owner.get('kind')}/{owner.get('name')}" for owner in controllers[:2])
        problem = f"Only one reference can have Controller set to true. Found {names}"
        errors.append(_invalid("metadata.ownerReferences", "", problem))


def _label(key: str, value: str, path: str, errors: list[FieldError]) -> None:
    prefix, slash, name = key.rpartition("/")
    if len(name) > 63 or not _QUALIFIED.match(name) or (slash and not _SUBDOMAIN.match(prefix)):
        errors.append(_invalid(path, key, "a qualified name must consist of alphanumeric characters, '-', '_' or '.', "
                               "and must start and end with an alphanumeric character, with an optional DNS subdomain "
                               "prefix and '/' (e.g. 'example.com/MyName')"))  # fmt: skip
    if len(value) > 63:
        errors.append(_invalid(path, value, "must be no more than 63 bytes"))
    elif not _VALUE.match(value):
        errors.append(_invalid(path, value, "a valid label must be an empty string or consist of alphanumeric "
                               "characters, '-', '_' or '.', and must start and end with an alphanumeric character "
                               "(e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                               "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"))  # fmt: skip


def _annotations(annotations: dict[str, str], errors: list[FieldError]) -> None:
    total = 0
    for key, value in annotations.items():
        total += len(key) + len(value)
        prefix, slash, name = key.rpartition("/")
        if len(name) > 63 or not _QUALIFIED.match(name) or (slash and not _SUBDOMAIN.match(prefix.lower())):
            errors.append(_invalid("metadata.annotations", key, "a qualified name must consist of alphanumeric "
                                   "characters, '-', '_' or '.'"))  # fmt: skip
    if total > MAX_ANNOTATIONS:
        text = f"Too long: may not be more than {MAX_ANNOTATIONS} bytes"
        errors.append(FieldError("metadata.annotations", "FieldValueTooLong", text))


def _invalid(path: str, value: str, problem: str) -> FieldError:
    return FieldError(path, "FieldValueInvalid", f'Invalid value: "{value}": {problem}')


def _required(path: str) -> FieldError:
    return FieldError(path, "FieldValueRequired", "Required value")


def copy_json(value: Any) -> Any:
    """A deep copy of a JSON value."""
    if isinstance(value, dict):
        return {key: copy_json(item) for key, item in value.items()}
    return [copy_json(item) for item in value] if isinstance(value, list) else value
