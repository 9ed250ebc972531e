"""The kinds of an installation's objects, and how the lines of a report name one."""

from __future__ import annotations

from typing import Any, Final

from appliance.api import kinds
from appliance.api.kinds import Kind
from appliance.api.structs import Object

_RBAC, _NETWORK = "rbac.authorization.k8s.io", "networking.k8s.io"
SERVICE_ACCOUNT: Final = Kind("", "v1", "serviceaccounts", "ServiceAccount", True, Object)
SERVICE: Final = Kind("", "v1", "services", "Service", True, Object)
DEPLOYMENT: Final = Kind("apps", "v1", "deployments", "Deployment", True, Object)
BUDGET: Final = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True, Object)
POLICY: Final = Kind(_NETWORK, "v1", "networkpolicies", "NetworkPolicy", True, Object)
INGRESS: Final = Kind(_NETWORK, "v1", "ingresses", "Ingress", True, Object)
ROLE: Final = Kind(_RBAC, "v1", "roles", "Role", True, Object)
ROLE_BINDING: Final = Kind(_RBAC, "v1", "rolebindings", "RoleBinding", True, Object)
CLUSTER_ROLE: Final = Kind(_RBAC, "v1", "clusterroles", "ClusterRole", False, Object)
CLUSTER_ROLE_BINDING: Final = Kind(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", False, Object)
ALL: Final = (
    kinds.NAMESPACE, kinds.CRD, kinds.SECRET, SERVICE_ACCOUNT, SERVICE, DEPLOYMENT, BUDGET, POLICY, INGRESS, ROLE,
    ROLE_BINDING, CLUSTER_ROLE, CLUSTER_ROLE_BINDING, kinds.VALIDATINGWEBHOOK,
)  # fmt: skip
"""Every kind that ``command.manifests`` renders."""
_BY_NAME: Final[dict[tuple[str, str], Kind[Any]]] = {(kind.api_version, kind.kind): kind for kind in ALL}


def kind_of(document: dict[str, Any]) -> Kind[Any]:
    """The kind of a rendered document."""
    return _BY_NAME[document["apiVersion"], document["kind"]]


def place_of(document: dict[str, Any]) -> tuple[Kind[Any], str | None, str]:
    """Kind, namespace and name."""
    meta = document["metadata"]
    return kind_of(document), meta.get("namespace"), meta["name"]


def label(document: dict[str, Any]) -> str:
    """``deployment/sandbox-manager in sandbox-system``."""
    kind, namespace, name = place_of(document)
    return f"{kind.kind.lower()}/{name}" + (f" in {namespace}" if namespace else "")
