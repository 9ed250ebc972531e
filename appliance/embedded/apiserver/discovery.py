"""Discovery documents: which groups, versions and resources there are, classic and aggregated."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from appliance.embedded.apiserver.resources import Registry, Resource
from appliance.embedded.apiserver.responses import json_value
from appliance.embedded.apiserver.status import unknown_path

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_SUB_VERBS = {
    "status": ("get", "patch", "update"), "scale": ("get", "patch", "update"), "resize": ("get", "patch", "update"),
    "log": ("get",), "exec": ("create", "get"), "finalize": ("update",),
}  # fmt: skip
Document = dict[str, Any]


def find(registry: Registry, http: web.BaseRequest) -> web.Response | None:
    """The discovery document at the request's path, or None when the path is not discovery's."""
    parts = http.path.strip("/").split("/")
    if parts[0] not in ("api", "apis") or len(parts) > 3:
        return None
    if len(parts) == 1:
        if "APIGroupDiscoveryList" in http.headers.get("Accept", "") and "v=v2" in http.headers.get("Accept", ""):
            return json_value(aggregated(registry, core=parts[0] == "api"), media=AGGREGATED)
        return json_value(core_versions() if parts[0] == "api" else group_list(registry))
    groups = registry.groups()
    if parts[0] == "api":
        return json_value(resource_list(registry, "", parts[1])) if len(parts) == 2 and parts[1] == "v1" else None
    if parts[1] not in groups:
        raise unknown_path(http.path)
    if len(parts) == 2:
        return json_value({"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1], groups[parts[1]])})
    if parts[2] not in groups[parts[1]]:
        raise unknown_path(http.path)
    return json_value(resource_list(registry, parts[1], parts[2]))


def core_versions() -> Document:
    """GET /api."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def _group(name: str, versions: list[str]) -> Document:
    shown = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": shown, "preferredVersion": shown[0]}


def group_list(registry: Registry) -> Document:
    """GET /apis."""
    groups = [_group(name, versions) for name, versions in registry.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def resource_list(registry: Registry, group: str, version: str) -> Document:
    """GET /api/v1 and /apis/GROUP/VERSION."""
    entries = []
    for res in registry.all():
        if (res.group, res.version) == (group, version):
            entries.append(_entry(res))
            entries.extend(_sub_entry(res, sub) for sub in sorted(res.subresources))
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": entries}


def _entry(res: Resource) -> Document:
    entry: Document = {
        "name": res.plural,
        "singularName": res.singular,
        "namespaced": res.namespaced,
        "kind": res.kind,
        "verbs": sorted(res.verbs),
    }
    if res.short_names:
        entry["shortNames"] = list(res.short_names)
    if res.categories:
        entry["categories"] = list(res.categories)
    return entry


def _sub_kind(res: Resource, sub: str) -> tuple[str, str, str]:
    """(group, version, kind) of a subresource's object."""
    if sub == "scale":
        return "autoscaling", "v1", "Scale"
    if sub == "exec":
        return "", "v1", "PodExecOptions"
    return res.group, res.version, res.kind


def _sub_entry(res: Resource, sub: str) -> Document:
    group, version, kind = _sub_kind(res, sub)
    entry = {"name": f"{res.plural}/{sub}", "singularName": "", "namespaced": res.namespaced, "kind": kind}
    if sub == "scale":
        entry |= {"group": group, "version": version}
    return entry | {"verbs": list(_SUB_VERBS[sub])}


def aggregated(registry: Registry, *, core: bool) -> Document:
    """GET /api or /apis as one APIGroupDiscoveryList."""
    items = []
    for group, versions in registry.groups().items():
        if (group == "") is core:
            shown = [
                {"version": v, "resources": _resources(registry, group, v), "freshness": "Current"} for v in versions
            ]
            metadata = {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None}
            items.append({"metadata": metadata, "versions": shown})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _resources(registry: Registry, group: str, version: str) -> list[Document]:
    found = []
    for res in registry.all():
        if (res.group, res.version) != (group, version):
            continue
        entry: Document = {
            "resource": res.plural,
            "responseKind": {"group": res.group, "version": res.version, "kind": res.kind},
            "scope": "Namespaced" if res.namespaced else "Cluster",
            "singularResource": res.singular,
            "verbs": sorted(res.verbs),
        }
        if res.short_names:
            entry["shortNames"] = list(res.short_names)
        if res.categories:
            entry["categories"] = list(res.categories)
        if res.subresources:
            entry["subresources"] = [_subresource(res, sub) for sub in sorted(res.subresources)]
        found.append(entry)
    return found


def _subresource(res: Resource, sub: str) -> Document:
    group, version, kind = _sub_kind(res, sub)
    return {
        "subresource": sub,
        "responseKind": {"group": group, "version": version, "kind": kind},
        "verbs": list(_SUB_VERBS[sub]),
    }
