"""Every kind that anybody here reads or writes, and where it lives on an API server.

A ``Kind`` ties a REST path to the struct its objects decode into, so that ``cluster.get(POD, …)`` is typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from urllib.parse import quote

from appliance.api import corestructs, structs
from appliance.api.labels import GROUP, VERSION

T = TypeVar("T", bound=structs.Object)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """One resource of the API: group (empty for core), version, plural, kind, scope, struct."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    struct: type[T]

    @property
    def api_version(self) -> str:
        """``group/version``, or just the version for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection or of one object.

        ``namespace`` None or empty means all namespaces (collections only); cluster-scoped kinds take none.

        Raises ValueError when an object of a namespaced kind is named without its namespace, the reverse, or when a
        subresource is asked of a collection.
        """
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace:
            if not self.namespaced:
                raise ValueError(f"namespace: {self.kind} is cluster-scoped, got {namespace!r}")
            parts += ["namespaces", quote(namespace, safe="")]
        elif self.namespaced and name is not None:
            raise ValueError(f"namespace: required to address the {self.kind} {name!r}")
        parts.append(self.plural)
        if name is not None:
            if not name:
                raise ValueError(f"name: expected the name of a {self.kind}, got an empty string")
            parts.append(quote(name, safe=""))
        if subresource is not None:
            if name is None:
                raise ValueError(f"subresource: {subresource!r} needs the name of a {self.kind}")
            parts.append(subresource)
        return "/".join(parts)


SANDBOX: Final = Kind(GROUP, VERSION, "sandboxes", "Sandbox", True, structs.Sandbox)
SANDBOXSET: Final = Kind(GROUP, VERSION, "sandboxsets", "SandboxSet", True, structs.SandboxSet)
SANDBOXCLAIM: Final = Kind(GROUP, VERSION, "sandboxclaims", "SandboxClaim", True, structs.SandboxClaim)
SANDBOXTEMPLATE: Final = Kind(GROUP, VERSION, "sandboxtemplates", "SandboxTemplate", True, structs.SandboxTemplate)
SANDBOXUPDATEOPS: Final = Kind(GROUP, VERSION, "sandboxupdateops", "SandboxUpdateOps", True, structs.SandboxUpdateOps)
CHECKPOINT: Final = Kind(GROUP, VERSION, "checkpoints", "Checkpoint", True, structs.Checkpoint)

POD: Final = Kind("", "v1", "pods", "Pod", True, corestructs.Pod)
SECRET: Final = Kind("", "v1", "secrets", "Secret", True, corestructs.Secret)
CONFIGMAP: Final = Kind("", "v1", "configmaps", "ConfigMap", True, corestructs.ConfigMap)
NODE: Final = Kind("", "v1", "nodes", "Node", False, corestructs.Node)
EVENT: Final = Kind("", "v1", "events", "Event", True, corestructs.CoreEvent)
PVC: Final = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True, corestructs.PersistentVolumeClaim)
NAMESPACE: Final = Kind("", "v1", "namespaces", "Namespace", False, corestructs.Namespace)
VALIDATINGWEBHOOK: Final = Kind(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    False,
    corestructs.ValidatingWebhookConfiguration,
)
LEASE: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease", True, corestructs.Lease)
CRD: Final = Kind(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    False,
    corestructs.CustomResourceDefinition,
)

OURS: Final = (SANDBOX, SANDBOXSET, SANDBOXCLAIM, SANDBOXTEMPLATE, SANDBOXUPDATEOPS, CHECKPOINT)
"""The kinds of our group, in the order they are documented."""
ALL: Final = (*OURS, POD, SECRET, CONFIGMAP, NODE, EVENT, PVC, NAMESPACE, LEASE, CRD)
