"""CustomResourceDefinitions of our kinds, generated from the models.

``python -m appliance.api.crds DIRECTORY`` writes one YAML file per kind; a test fails when the files in ``crds/`` and
the models disagree. Names, short names, printer columns and subresources follow the existing system.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from appliance.api import kinds
from appliance.api.checkpoint import Checkpoint
from appliance.api.kinds import Kind
from appliance.api.labels import CLAIMED
from appliance.api.sandbox import Sandbox
from appliance.api.sandboxclaim import SandboxClaim
from appliance.api.sandboxset import SandboxSet
from appliance.api.sandboxtemplate import SandboxTemplate
from appliance.api.sandboxupdateops import SandboxUpdateOps
from appliance.api.schema import structural

CATEGORY: Final = "agents"
"""``kubectl get agents`` lists every kind of ours."""
_AGE: Final = ("Age", "date", ".metadata.creationTimestamp")
_CLAIMED_PATH: Final = ".metadata.labels." + CLAIMED.replace(".", r"\.")


@dataclass(frozen=True)
class _Definition:
    model: type[BaseModel]
    short_name: str
    columns: tuple[tuple[str, str, str], ...] = ()
    """(name, type, JSON path)"""
    scalable: bool = False


_DEFINITIONS: Final[dict[Kind[Any], _Definition]] = {
    kinds.SANDBOX: _Definition(
        Sandbox,
        "sbx",
        (
            ("Status", "string", ".status.phase"),
            _AGE,
            ("Claimed", "string", _CLAIMED_PATH),
            ("shutdown_time", "string", ".spec.shutdownTime"),
            ("pause_time", "string", ".spec.pauseTime"),
            ("RecycledCount", "integer", ".status.recycledCount"),
            ("Message", "string", ".status.message"),
        ),
    ),
    kinds.SANDBOXSET: _Definition(
        SandboxSet,
        "sbs",
        (
            ("Replicas", "integer", ".status.replicas"),
            ("Available", "integer", ".status.availableReplicas"),
            ("UpdatedReplicas", "integer", ".status.updatedReplicas"),
            ("UpdatedAvailableReplicas", "integer", ".status.updatedAvailableReplicas"),
            ("UpdateRevision", "string", ".status.updateRevision"),
            _AGE,
        ),
        scalable=True,
    ),
    kinds.SANDBOXCLAIM: _Definition(
        SandboxClaim,
        "sbc",
        (
            ("Phase", "string", ".status.phase"),
            ("Template", "string", ".spec.templateName"),
            ("Desired", "integer", ".spec.replicas"),
            ("Claimed", "integer", ".status.claimedReplicas"),
            _AGE,
        ),
    ),
    kinds.SANDBOXTEMPLATE: _Definition(SandboxTemplate, "sbt"),
    kinds.SANDBOXUPDATEOPS: _Definition(
        SandboxUpdateOps,
        "suo",
        (
            ("Phase", "string", ".status.phase"),
            ("Total", "integer", ".status.replicas"),
            ("Updated", "integer", ".status.updatedReplicas"),
            ("Updating", "integer", ".status.updatingReplicas"),
            ("Failed", "integer", ".status.failedReplicas"),
            _AGE,
        ),
    ),
    kinds.CHECKPOINT: _Definition(Checkpoint, "cp", (("Status", "string", ".status.phase"), _AGE)),
}


def crd(kind: Kind[Any]) -> dict[str, Any]:
    """The CustomResourceDefinition of one of our kinds. KeyError for any other kind."""
    definition = _DEFINITIONS[kind]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [definition.short_name],
                "categories": [CATEGORY],
            },
            "versions": [_version(kind, definition)],
        },
    }


def all_crds() -> list[dict[str, Any]]:
    """Every CustomResourceDefinition of ours."""
    return [crd(kind) for kind in kinds.OURS]


def _version(kind: Kind[Any], definition: _Definition) -> dict[str, Any]:
    schema = structural(definition.model)
    version: dict[str, Any] = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    if "status" in schema["properties"]:
        version["subresources"] = {"status": {}}
    if definition.scalable:
        version["subresources"]["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    if definition.columns:
        version["additionalPrinterColumns"] = [
            {"name": name, "type": type_, "jsonPath": path} for name, type_, path in definition.columns
        ]
    return version


def render(kind: Kind[Any]) -> str:
    """The YAML file of one kind."""
    head = "# Generated by python -m appliance.api.crds crds/ from appliance/api/; edit the models, not this file.\n"
    return head + yaml.safe_dump(crd(kind), sort_keys=False, allow_unicode=True, width=120)


def file_name(kind: Kind[Any]) -> str:
    """Name of that file: ``GROUP_PLURAL.yaml``."""
    return f"{kind.group}_{kind.plural}.yaml"


def main(arguments: list[str]) -> int:
    """Write every file into the directory named by the one argument."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m appliance.api.crds DIRECTORY\n")
        return 2
    directory = Path(arguments[0])
    directory.mkdir(parents=True, exist_ok=True)
    for kind in kinds.OURS:
        (directory / file_name(kind)).write_text(render(kind), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
