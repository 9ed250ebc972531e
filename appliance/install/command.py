"""``appliance install``: every manifest, in the order in which a cluster takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from appliance.api import labels
from appliance.api.crds import all_crds
from appliance.install import admission, ingress, network, rbac, workloads
from appliance.install.nodes import filled, resolve


def parts() -> dict[str, list[Any]]:
    """The manifests with their holes, by topic, in order: the names are those of the chart's templates."""
    namespace = labels.SYSTEM_NAMESPACE
    return {
        "namespace": [filled("createNamespace", _namespace(namespace))],
        "crds": [filled("crds.install", _kept(crd)) for crd in all_crds()],
        "rbac": rbac.objects(namespace),
        "network": network.objects(namespace),
        "workloads": workloads.objects(namespace),
        "admission": admission.objects(namespace),
        "ingress": ingress.objects(namespace),
    }


def manifests(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Namespace, CRDs, RBAC, network policies, workloads, ingress, for checked values (``values.parse``)."""
    return resolve([document for part in parts().values() for document in part], values)


def _namespace(name: str) -> dict[str, Any]:
    hard = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": hard, "annotations": rbac.KEEP},
    }


def _kept(crd: dict[str, Any]) -> dict[str, Any]:
    meta = crd["metadata"]
    return {**crd, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), **rbac.KEEP}}}


def render(values: Mapping[str, Any]) -> str:
    """The manifests as one YAML stream."""
    return as_yaml(manifests(values))


def run(values: Mapping[str, Any], say: Callable[[str], None]) -> int:
    """Print the manifests; returns the exit status."""
    say(render(values).rstrip("\n"))
    return 0


def as_yaml(documents: list[dict[str, Any]]) -> str:
    """A YAML stream without anchors."""
    return str(yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, explicit_start=True))


class _Plain(yaml.SafeDumper):
    """Without anchors, which people find hard to read and some tools refuse."""

    def ignore_aliases(self, data: Any) -> bool:
        """Every value is written out."""
        return True
