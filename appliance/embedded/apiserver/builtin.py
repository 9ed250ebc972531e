"""The built-in kinds: everything the sandbox cloud uses of core Kubernetes, and nothing else.

``SERVED_VIRTUALLY`` are kinds without storage (reviews). Selectable fields follow the real server's field selectors.
"""

from __future__ import annotations

from typing import Any

from appliance.embedded.apiserver.resources import Resource
from appliance.embedded.apiserver.schema.core import core_node

ALL = ("all",)
EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)
POD_FIELDS = (
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
)


def _core(plural: str, kind: str, namespaced: bool = True, **more: Any) -> Resource:
    more["subresources"] = frozenset(more.get("subresources", ()))
    return Resource("", "v1", plural, kind, namespaced, schema=core_node(f"core.v1.{kind}"), **more)


def builtin_resources() -> list[Resource]:
    """The fixed resources, in the order discovery shows them."""
    return [
        _core("namespaces", "Namespace", False, short_names=("ns",), subresources=("status", "finalize"),
              selectable=("status.phase",)),
        _core("pods", "Pod", short_names=("po",), categories=ALL, selectable=POD_FIELDS,
              subresources=("status", "log", "exec", "resize")),
        _core("nodes", "Node", False, short_names=("no",), subresources=("status",),
              selectable=("spec.unschedulable",)),
        _core("events", "Event", short_names=("ev",), selectable=EVENT_FIELDS),
        _core("secrets", "Secret", selectable=("type",)),
        _core("configmaps", "ConfigMap", short_names=("cm",)),
        _core("services", "Service", short_names=("svc",), categories=ALL, subresources=("status",),
              selectable=("spec.clusterIP", "spec.type")),
        _core("serviceaccounts", "ServiceAccount", short_names=("sa",)),
        _core("persistentvolumeclaims", "PersistentVolumeClaim", short_names=("pvc",), subresources=("status",)),
        _core("persistentvolumes", "PersistentVolume", False, short_names=("pv",), subresources=("status",)),
        Resource("coordination.k8s.io", "v1", "leases", "Lease", True, schema=core_node("coordination.v1.Lease")),
        Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False,
                 short_names=("crd", "crds"), categories=("api-extensions",), subresources=frozenset({"status"}),
                 schema=core_node("apiextensions.v1.CustomResourceDefinition")),
        Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False,
                 verbs=("create",), schema=core_node("authorization.v1.SelfSubjectAccessReview")),
    ]  # fmt: skip


VIRTUAL = frozenset({"selfsubjectaccessreviews.authorization.k8s.io"})
"""Keys of resources that are answered, never stored."""
