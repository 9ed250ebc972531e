"""The generated CRDs: up to date, structural, and with the surface the existing system has."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.api import crds, kinds
from appliance.api.kinds import Kind

ROOT = Path(__file__).resolve().parents[3]
TYPES = {"object", "array", "string", "integer", "number", "boolean"}
WORDS = {
    "type", "format", "description", "enum", "default", "pattern", "minimum", "maximum", "minLength", "maxLength",
    "required", "properties", "items", "additionalProperties", "anyOf", "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type", "x-kubernetes-validations",
}  # fmt: skip


def version_of(kind: Kind) -> dict[str, Any]:
    return crds.crd(kind)["spec"]["versions"][0]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if word in schema:
            yield from nodes(schema[word], f"{path}[{word}]")


ALL_NODES = [
    pytest.param(node, id=f"{kind.kind}{path}")
    for kind in kinds.OURS
    for path, node in nodes(version_of(kind)["schema"]["openAPIV3Schema"])
]


@pytest.mark.parametrize("kind", kinds.OURS, ids=lambda kind: kind.kind)
def test_files_match_the_models(kind: Kind) -> None:
    """crds/ is what the models generate; if not: python -m appliance.api.crds crds/."""
    assert (ROOT / "crds" / crds.file_name(kind)).read_text() == crds.render(kind)


def test_no_stray_files() -> None:
    """crds/ holds one file per kind and nothing else."""
    assert {path.name for path in (ROOT / "crds").iterdir()} == {crds.file_name(kind) for kind in kinds.OURS}


@pytest.mark.parametrize("node", ALL_NODES)
def test_schemas_are_structural(node: dict[str, Any]) -> None:
    """The rules of apiextensions/v1: one type per node, known words, no metadata below the root, sound list types."""
    assert set(node) <= WORDS
    if node.get("x-kubernetes-int-or-string"):
        assert "type" not in node
        assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    else:
        assert node["type"] in TYPES
        assert "anyOf" not in node
    if "properties" in node:
        assert node["type"] == "object"
        assert "additionalProperties" not in node
        assert set(node.get("required", [])) <= set(node["properties"])
    if node.get("x-kubernetes-list-type") == "map":
        item = node["items"]
        for key in node["x-kubernetes-list-map-keys"]:
            assert key in item["required"] or "default" in item["properties"][key]
    if node.get("type") == "array":
        assert node["x-kubernetes-list-type"] in {"atomic", "map", "set"}
    if "pattern" in node:
        re.compile(node["pattern"])
        assert not re.search(r"\(\?[=!<P]", node["pattern"]), "RE2 knows no lookaround"


@pytest.mark.parametrize("kind", kinds.OURS, ids=lambda kind: kind.kind)
def test_every_field_is_explained(kind: Kind) -> None:
    """kubectl explain has a sentence for every field."""
    schema = version_of(kind)["schema"]["openAPIV3Schema"]
    mute = [
        path
        for path, node in nodes(schema)
        if path.rpartition("]")[2] and path != ".metadata" and not node.get("description")
    ]
    assert not mute


@pytest.mark.parametrize("node", ALL_NODES)
def test_defaults_satisfy_their_own_schema(node: dict[str, Any]) -> None:
    """An API server refuses a CRD whose default breaks its pattern, bounds or enum."""
    if "default" not in node:
        return
    default = node["default"]
    if isinstance(default, str) and "pattern" in node:
        assert re.search(node["pattern"], default)
    if "enum" in node:
        assert default in node["enum"]
    if isinstance(default, int) and not isinstance(default, bool):
        assert default >= node.get("minimum", default)


def test_rules_that_clients_rely_on() -> None:
    """replicas of a claim is immutable with the exact message; pools and sandboxes have exactly one template source."""
    claim = version_of(kinds.SANDBOXCLAIM)["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert claim["properties"]["replicas"]["x-kubernetes-validations"] == [
        {"rule": "self == oldSelf", "message": "replicas is immutable"}
    ]
    for kind in (kinds.SANDBOX, kinds.SANDBOXSET):
        spec = version_of(kind)["schema"]["openAPIV3Schema"]["properties"]["spec"]
        assert spec["x-kubernetes-validations"][0]["rule"] == "has(self.template) != has(self.templateRef)"
        template = spec["properties"]["template"]
        assert template["type"] == "object"  # CEL sees only typed fields
        assert template["x-kubernetes-preserve-unknown-fields"] is True


def test_defaults_of_the_existing_system() -> None:
    """Omitted fields get the documented values."""
    claim = version_of(kinds.SANDBOXCLAIM)["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    expected = {
        "replicas": 1, "claimTimeout": "1m", "ttlAfterCompleted": "60m", "createOnNoStock": True,
        "waitReadyTimeout": "30s", "skipInitRuntime": False, "reserveFailedSandbox": False,
    }  # fmt: skip
    assert {name: claim[name]["default"] for name in expected} == expected
    pool = version_of(kinds.SANDBOXSET)["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert pool["updateStrategy"]["properties"]["maxUnavailable"]["default"] == "20%"


@pytest.mark.parametrize("text", ["1s", "1m", "90s", "1h30m", "1.5h", "1m0s", "0h1m", "1m0.5s"])
def test_time_outs_of_a_second_and_more_are_accepted(text: str) -> None:
    """The pattern that stands for "at least 1s" takes what people and Go write."""
    claim = version_of(kinds.SANDBOXCLAIM)["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert re.search(claim["claimTimeout"]["pattern"], text)


@pytest.mark.parametrize("text", ["0s", "500ms", "-1m", "1", "0.5s", "1d", "", "m"])
def test_time_outs_under_a_second_are_refused(text: str) -> None:
    """Zero, negative, sub-second and malformed time-outs do not get in."""
    claim = version_of(kinds.SANDBOXCLAIM)["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert not re.search(claim["claimTimeout"]["pattern"], text)


def test_names_columns_and_subresources() -> None:
    """Short names, categories, printer columns, status and scale are those that kubectl users know."""
    names = {kind: crds.crd(kind)["spec"]["names"]["shortNames"] for kind in kinds.OURS}
    assert names == {
        kinds.SANDBOX: ["sbx"], kinds.SANDBOXSET: ["sbs"], kinds.SANDBOXCLAIM: ["sbc"],
        kinds.SANDBOXTEMPLATE: ["sbt"], kinds.SANDBOXUPDATEOPS: ["suo"], kinds.CHECKPOINT: ["cp"],
    }  # fmt: skip
    columns = [column["name"] for column in version_of(kinds.SANDBOX)["additionalPrinterColumns"]]
    assert columns == ["Status", "Age", "Claimed", "shutdown_time", "pause_time", "RecycledCount", "Message"]
    claimed = version_of(kinds.SANDBOX)["additionalPrinterColumns"][2]
    assert claimed["jsonPath"] == r".metadata.labels.agents\.kruise\.io/sandbox-claimed"
    assert version_of(kinds.SANDBOXSET)["subresources"]["scale"]["labelSelectorPath"] == ".status.selector"
    assert "subresources" not in version_of(kinds.SANDBOXTEMPLATE)


def test_pause_strategies() -> None:
    """Freeze stands beside the strategies of the existing system, wherever a strategy may be given."""
    for kind in (kinds.SANDBOX, kinds.SANDBOXSET, kinds.SANDBOXTEMPLATE):
        spec = version_of(kind)["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        assert set(spec["pauseStrategy"]["properties"]["type"]["enum"]) == {"Freeze", "Hibernate", "Stop"}


def test_the_command_writes_the_files(tmp_path: Path) -> None:
    """python -m appliance.api.crds DIRECTORY writes loadable YAML; without a directory it says how to call it."""
    assert crds.main([str(tmp_path / "out")]) == 0
    loaded = [yaml.safe_load(path.read_text()) for path in sorted((tmp_path / "out").iterdir())]
    assert sorted(one["metadata"]["name"] for one in loaded) == sorted(
        one["metadata"]["name"] for one in crds.all_crds()
    )
    assert crds.main([]) == 2


def test_structs_read_every_field_the_schemas_have() -> None:
    """Nothing that a schema admits in spec and status is invisible to the structs, and the reverse."""
    import msgspec

    for kind in kinds.OURS:
        schema = version_of(kind)["schema"]["openAPIV3Schema"]["properties"]
        fields = {one.name: one.type for one in msgspec.structs.fields(kind.struct)}
        for part in ("spec", "status"):
            if part in schema:
                known = {one.encode_name for one in msgspec.structs.fields(fields[part])}
                assert known == set(schema[part]["properties"]), f"{kind.kind}.{part}"
