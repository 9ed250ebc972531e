"""The manifests: complete, restricted, and allowed exactly what the code calls."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance import cli
from appliance.api import kinds
from appliance.commands import roles
from appliance.install import rbac
from appliance.install.command import manifests
from appliance.install.values import merged, parse

ROOT = Path(__file__).parents[3] / "appliance"
CALL = re.compile(
    r"(?:cluster|_cluster)\.(get|list|watch|create|patch|apply|delete)\(\s*(?:kinds\.)?([A-Z]+)\b(?P<rest>[^)]*(?:\([^)]*\)[^)]*)*\))"
)
INFORMER = re.compile(r"Informer\(cluster, (?:kinds\.)?([A-Z]+)\b")
SOURCES = {rbac.CONTROLLER: ("controller", "claims"), rbac.MANAGER: ("manager", "claims")}
OPTIONAL = {("namespaces", "create"), ("validatingwebhookconfigurations", "create")}
"""Tried and, where forbidden, done without: both are among the manifests."""


def calls(role: str) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of every call in the role's sources."""
    found = set()
    for part in SOURCES[role]:
        for path in (ROOT / part).rglob("*.py"):
            text = path.read_text()
            for match in CALL.finditer(text):
                kind = getattr(kinds, match[2])
                sub = re.search(r'subresource="(\w+)"', match["rest"])
                verbs = ("create", "patch") if match[1] == "apply" else (match[1],)
                found |= {(kind.group, f"{kind.plural}/{sub[1]}" if sub else kind.plural, verb) for verb in verbs}
            for match in INFORMER.finditer(text):
                kind = getattr(kinds, match[1])
                found |= {(kind.group, kind.plural, verb) for verb in ("list", "watch")}
    return found


def granted(role: str) -> set[tuple[str, str, str]]:
    """What the role's rules allow."""
    rules = (*rbac.CLUSTER[role], *rbac.OWN[role])
    return {(group, resource, verb) for group, resource, verbs in rules for verb in verbs}


@pytest.mark.parametrize("role", list(SOURCES))
def test_every_call_in_the_code_is_allowed(role: str) -> None:
    """No role meets a 403 for something its own source does."""
    made = {one for one in calls(role) if one[1:] not in OPTIONAL}
    assert ("agents.kruise.io", "sandboxes", "create") in made  # the scan sees something
    assert not made - granted(role)


@pytest.mark.parametrize("role", list(SOURCES))
def test_no_role_may_do_what_its_code_never_does(role: str) -> None:
    """Rules that no call uses are refused; read access beside a watch, owner finalizers, logs and leases excepted."""
    spare = granted(role) - calls(role)
    unused = {
        one
        for one in spare
        if one[2] not in ("get", "list", "watch") and one[1].partition("/")[2] != "finalizers" and one[1] != "leases"
    }
    assert not unused
    assert not any("*" in one for rule in granted(role) for one in rule)
    cluster = {(resource, verb) for _, resource, verbs in rbac.CLUSTER[role] for verb in verbs}
    assert not cluster & {("secrets", "list"), ("secrets", "watch")}


def rendered(**values: Any) -> list[dict[str, Any]]:
    """Manifests for an image."""
    own = {"image": "registry.example/appliance:1", "createNamespace": True}
    return manifests(parse(merged(own, values)))


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pod specs by deployment."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in documents if one["kind"] == "Deployment"
    }


def test_everything_is_there_in_an_order_a_cluster_takes() -> None:
    """Namespace first, definitions and accounts before what needs them, no object twice."""
    order = [one["kind"] for one in rendered()]
    assert order[0] == "Namespace"
    assert order.count("CustomResourceDefinition") == len(kinds.OURS)
    assert order.index("ServiceAccount") < order.index("Deployment")
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} <= set(order)
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in rendered()]
    assert len(names) == len(set(names))


def test_pods_pass_the_restricted_pod_security_standard() -> None:
    """Non-root, read-only root, no capabilities, default seccomp: what the namespace enforces."""
    for spec in pods(rendered(tls={"secretName": "tls"}, domain="sandboxes.example")).values():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in spec["volumes"]}


def test_the_roles_take_the_flags_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rendered command lines parse, and lead to the settings that the options mean."""
    for name, spec in pods(rendered(tls={"secretName": "tls"}, domain="sandboxes.example")).items():
        arguments = spec["containers"][0]["command"][1:]
        options = cli.parser().parse_args(arguments)
        assert f"sandbox-{options.role}" == name.removesuffix("-manager") or options.role == "manager"
        if options.role == "manager":
            assert options.domain == "sandboxes.example"
            assert roles.gateway(options).listen == "0.0.0.0:8080"
            assert options.api_key_file == Path("/etc/appliance/key/api-key")


def test_sandboxes_reach_no_private_address_and_each_other() -> None:
    """In every namespace of pools: in only from our two roles, out only to names and the internet."""
    documents = rendered(sandboxNamespaces=["default", "team-a"])
    policies = {
        one["metadata"]["namespace"]: one["spec"]
        for one in documents
        if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == "appliance-sandboxes"
    }
    assert set(policies) == {"default", "team-a"}
    for spec in policies.values():
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        blocks = [to["ipBlock"] for rule in spec["egress"] for to in rule["to"] if "ipBlock" in to]
        assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(blocks[0]["except"])
        assert all("namespaceSelector" in source for rule in spec["ingress"] for source in rule["from"])


def test_one_replica_gets_no_budget() -> None:
    """A budget over a single pod would keep its node from ever being drained."""
    budgets = [
        one["metadata"]["name"] for one in rendered(managers={"replicas": 1}) if one["kind"] == "PodDisruptionBudget"
    ]
    assert budgets == [rbac.CONTROLLER]


def test_the_command_prints_yaml_without_anchors(capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is what was rendered, twice the same."""
    outputs = []
    for _ in range(2):
        assert cli.main(["install", "--image", "registry.example/appliance:1"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert "&id" not in outputs[0]
    assert list(yaml.safe_load_all(outputs[0])) == rendered()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--image", ""], "--image: expected an image reference"),
        (["--image", "x", "--domain", "not a name"], "--domain: expected a DNS name, got 'not a name'"),
        (["--image", "x", "--managers", "0"], "--managers: expected a number greater than or equal to 1, got 0"),
        (["--ingress"], "ingress.enabled: an Ingress needs domain"),
        (["--values", "VALUES"], "managrs: there is no such value"),
        (["--image", "x", "--tls-secret", "A_B"], "--tls-secret: expected a Kubernetes name, got 'A_B'"),
        (["--image", "x", "--sandbox-namespace", "*"], "--sandbox-namespace: expected a Kubernetes name"),
    ],
)
def test_bad_options_are_named(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each wrong value, by flag or in a file, is one line that names it and what is expected."""
    (tmp_path / "values.yaml").write_text("managrs: {replicas: 2}")
    named = [str(tmp_path / "values.yaml") if word == "VALUES" else word for word in arguments]
    assert cli.main(["install", *named]) == 1
    assert complaint in capsys.readouterr().err


def test_the_first_api_key_becomes_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is read from a file, never from the command line, and lands where the managers look for it."""
    (tmp_path / "key").write_text("e2b_" + "5" * 40 + "\n")
    assert cli.main(["install", "--api-key-file", str(tmp_path / "key"), "--api-key-secret", "first"]) == 0
    made = list(yaml.safe_load_all(capsys.readouterr().out))
    secret = next(one for one in made if one["kind"] == "Secret")
    assert secret["metadata"]["name"] == "first"
    assert base64.b64decode(secret["data"]["api-key"]).decode() == "e2b_" + "5" * 40
    volumes = pods(made)[rbac.MANAGER]["volumes"]
    assert {"secretName": "first", "defaultMode": 0o440} in [volume.get("secret") for volume in volumes]


def test_an_ingress_names_the_domain_without_its_port() -> None:
    """Hosts of an Ingress have no port; both the API's and the sandboxes' names lead to the managers."""
    made = rendered(domain="sbx.example:8443", ingress={"enabled": True, "tlsSecretName": "wild"})
    ingress = next(one for one in made if one["kind"] == "Ingress")
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == ["sbx.example", "*.sbx.example"]
    assert ingress["spec"]["tls"] == [{"hosts": ["sbx.example", "*.sbx.example"], "secretName": "wild"}]
