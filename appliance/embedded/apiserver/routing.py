"""From a request path to a resource, namespace, name and subresource.

``/api/v1/…`` is the core group, ``/apis/GROUP/VERSION/…`` every other. Pure: no I/O, raises only ApiStatus.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from appliance.embedded.apiserver.resources import Registry, Resource
from appliance.embedded.apiserver.status import unknown_path

_NAMESPACE_SUBRESOURCES = ("status", "finalize")


class Target(NamedTuple):
    """What a path names. ``namespace`` None: cluster scope, or all namespaces of a namespaced kind."""

    resource: Resource
    namespace: str | None
    name: str | None
    subresource: str | None


def route(registry: Registry, path: str) -> Target:
    """The target of an object path; ApiStatus 404 when nothing is served there."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise unknown_path(path)
    namespace: str | None = None
    if rest[0] == "namespaces" and len(rest) >= 3 and not (rest[2] in _NAMESPACE_SUBRESOURCES and len(rest) == 3):
        namespace, rest = rest[1], rest[2:]
    resource = registry.find(group, version, rest[0])
    if resource is None or len(rest) > 3 or (namespace is not None) > resource.namespaced or "" in rest:
        raise unknown_path(path)
    name = rest[1] if len(rest) > 1 else None
    subresource = rest[2] if len(rest) > 2 else None
    if subresource is not None and subresource not in resource.subresources:
        raise unknown_path(path)
    if name is not None and resource.namespaced and namespace is None:
        raise unknown_path(path)
    return Target(resource, namespace, name, subresource)
