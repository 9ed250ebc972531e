"""``appliance install``: print every manifest, in the order in which a cluster takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from appliance.api import labels
from appliance.api.crds import all_crds
from appliance.install import network, rbac, workloads
from appliance.install.options import InstallOptions


def manifests(options: InstallOptions) -> list[dict[str, Any]]:
    """Namespace, CRDs, RBAC, network policies, workloads."""
    namespace = labels.SYSTEM_NAMESPACE
    hard = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    own = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": hard}}
    policies = network.objects(namespace, options.sandbox_namespaces)
    return [own, *all_crds(), *rbac.objects(namespace), *policies, *workloads.objects(namespace, options)]


def run(options: InstallOptions, say: Callable[[str], None]) -> int:
    """Print the manifests as one YAML stream; returns the exit status."""
    say(yaml.dump_all(manifests(options), Dumper=_Plain, sort_keys=False, explicit_start=True).rstrip("\n"))
    return 0


class _Plain(yaml.SafeDumper):
    """Without anchors, which people find hard to read and some tools refuse."""

    def ignore_aliases(self, data: Any) -> bool:
        """Every value is written out."""
        return True
