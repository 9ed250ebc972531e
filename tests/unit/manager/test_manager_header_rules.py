"""``network.rules``: what is refused, where values are kept, and in which order a change is made."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from appliance.api import labels
from appliance.api.egress import Egress, egress_of, reason
from appliance.api.header_rules import HeaderRules, Rule, Transform, from_data
from appliance.api.kinds import POD
from appliance.kube import errors
from appliance.manager.bodies import NetworkRule, NetworkTransform
from appliance.manager.errors import Fault
from appliance.manager.header_rules import check

SECRET = "a-value-that-nobody-sees"
RULES = {"A.io": [{"transform": {"headers": {"X-Key": SECRET}}}]}


def rule(**headers: str) -> list[NetworkRule]:
    """One rule, with underscores in names for dashes."""
    return [NetworkRule(transform=NetworkTransform(headers={k.replace("_", "-"): v for k, v in headers.items()}))]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({f"a{n}.io": [] for n in range(11)}, "Network rules can have at most 10 domains."),
        ({"": []}, "Rule domain must not be empty."),
        ({"a" * 129: []}, "exceeds maximum length of 128 characters."),
        ({"*.a.io": []}, 'Rule domain "*.a.io" is not a valid domain name.'),
        ({"1.2.3.4": []}, 'Rule domain "1.2.3.4" is not a valid domain name.'),
        ({"10.0.0.0/8": []}, 'Rule domain "10.0.0.0/8" is not a valid domain name.'),
        ({"a.io:443": []}, 'Rule domain "a.io:443" is not a valid domain name.'),
        ({"https://a.io": []}, 'Rule domain "https://a.io" is not a valid domain name.'),
        ({"a.io": [], "A.io.": []}, "expected each domain once"),
        ({"a.io": [*rule(X="1"), *rule(Y="2")]}, 'Domain "a.io" can have at most 1 transform rule.'),
        ({"a.io": rule(**{f"x{n}": "" for n in range(21)})}, 'Domain "a.io" can have at most 20 headers per rule.'),
        ({"a.io": rule(**{"": "x"})}, 'Header name in rule for domain "a.io" must not be empty.'),
        ({"a.io": rule(**{"a b": "x"})}, "must contain only valid HTTP token characters."),
        ({"a.io": rule(ä="x")}, "must contain only valid HTTP token characters."),
        ({"a.io": rule(**{"x" * 65: "x"})}, "exceeds maximum length of 64 characters."),
        (
            {"a.io": rule(X=SECRET + "\r\nHost: b.io")},
            'Value for header "X" in rule for domain "a.io" contains invalid',
        ),
        ({"a.io": rule(X=SECRET * 200)}, "exceeds maximum length of 2048 characters."),
        ({"a.io": rule(X="ä" * 1025)}, "exceeds maximum length of 2048 characters."),
        ({"a.io": rule(X="1", x="2")}, "once, whatever its case"),
        ({"a.io": rule(Host="b.io")}, "header Host is not supported"),
        ({"a.io": rule(Transfer_Encoding="chunked")}, "header Transfer-Encoding is not supported"),
        ({"a.io": rule(X="Bearer ${e2b.identity.tokens.aws}")}, "a workload token in header X"),
    ],
)
def test_what_is_refused(given: dict[str, list[NetworkRule]], message: str) -> None:
    """With the original's words where it has some; no message has a value."""
    with pytest.raises(Fault) as refused:
        check("network.rules", given)
    assert refused.value.status == 400
    assert message in refused.value.message and SECRET not in refused.value.message


def test_what_is_kept() -> None:
    """Everything up to the limits, as it was given; only hosts with headers are of interest to the filter."""
    given = {f"a{n}.io": rule(**{f"x{n}": "v" for n in range(20)}) for n in range(8)}
    given |= {"B.io.": rule(X="\t" + "x" * 2047), "b" * 60 + "." + "c" * 60: [NetworkRule()]}
    kept = check("network.rules", given)
    assert list(kept) == list(given) and kept["b" * 60 + "." + "c" * 60] == [Rule()]
    from appliance.claims.authority import new_authority

    rules = HeaderRules(kept, new_authority())
    assert len(rules.headers) == 9 and rules.headers["b.io"] == {"X": "\t" + "x" * 2047}
    assert "v" not in repr(rules).replace("'", "") and "PRIVATE" not in repr(rules)
    assert "x" * 9 not in repr(Transform({"X": "x" * 9}))


@pytest.fixture
def revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Revisions are r1, r2, and so on."""
    numbers = itertools.count(1)
    for module in ("network", "network_change"):
        monkeypatch.setattr(f"appliance.manager.{module}.new_revision", lambda: f"r{next(numbers)}")


def node_says(world: Any, name: str, policy: Egress, **other: str) -> None:
    """The policy is in force."""
    told = {"type": labels.CONDITION_NETWORK, "status": "True", "reason": reason(policy), **other}
    world.cluster.change(POD, "default", name, {"status": {"conditions": [told]}})


def kept(world: Any) -> dict[str, HeaderRules]:
    """Rules in Secrets, by name."""
    found = {name: one for (plural, _, name), one in world.cluster.objects.items() if plural == "secrets"}
    return {name: from_data(one["data"]) for name, one in found.items() if "-rules-" in name}


async def made(world: Any, **network: Any) -> tuple[str, str]:
    """Id and name of a sandbox with ``RULES``, of revision r1."""
    for number in range(3):
        node_says(world, f"python-{number}", Egress(rules="r1"))
    sandbox_id = (await world.create(network={"rules": RULES, **network}))["sandboxID"]
    return sandbox_id, world.stored(sandbox_id)["metadata"]["name"]


async def test_values_are_in_a_secret_and_nowhere_else(world: Any, revisions: None) -> None:
    """The pod's policy names the revision, /init gets the certificate, and the owner reads the rules as given."""
    sandbox_id, name = await made(world, maskRequestHost="a.b")
    (rules,) = kept(world).values()
    assert list(kept(world)) == [f"{name}-rules-r1"] and rules.headers == {"a.io": {"X-Key": SECRET}}
    secret = world.cluster.objects["secrets", "default", f"{name}-rules-r1"]
    assert secret["metadata"]["ownerReferences"][0]["uid"] == world.stored(sandbox_id)["metadata"]["uid"]
    for plural in ("sandboxes", "pods"):
        stored = world.cluster.objects[plural, "default", name]
        assert SECRET not in json.dumps(stored) and "PRIVATE" not in json.dumps(stored)
        meta = stored["metadata"]
        assert egress_of(meta.get("labels", {}), meta["annotations"]) == Egress(rules="r1")
    ((_, body, _),) = world.runtime.inits
    assert body["caBundle"] == rules.authority.certificate and SECRET not in json.dumps(body)
    detail = await (await world.call("GET", f"/sandboxes/{sandbox_id}")).get_json()
    assert detail["network"] == {"maskRequestHost": "a.b", "rules": RULES}
    listed = await (await world.call("GET", "/v2/sandboxes")).get_data()
    assert SECRET.encode() not in listed


async def test_an_update_replaces_keeps_the_authority_and_clears(world: Any, revisions: None) -> None:
    """One Secret at a time; the sandbox is told of an authority when there is another one, and when there is none."""
    sandbox_id, name = await made(world)
    path, (first,) = f"/sandboxes/{sandbox_id}", kept(world).values()
    world.runtime.inits.clear()
    node_says(world, name, Egress(rules="r2"))
    assert (await world.call("PUT", f"{path}/network", json={"rules": {"b.io": [{}]}})).status_code == 204
    assert list(kept(world)) == [f"{name}-rules-r2"] and world.runtime.inits == []
    assert kept(world)[f"{name}-rules-r2"].authority == first.authority
    assert (await (await world.call("GET", path)).get_json())["network"] == {"rules": {"b.io": [{}]}}
    node_says(world, name, Egress())
    assert (await world.call("PUT", f"{path}/network", json={})).status_code == 204
    assert kept(world) == {} and [body["caBundle"] for _, body, _ in world.runtime.inits] == [""]
    assert "network" not in await (await world.call("GET", path)).get_json()
    node_says(world, name, Egress(rules="r3"))
    assert (await world.call("PUT", f"{path}/network", json={"rules": RULES})).status_code == 204
    ((_, (again)),) = kept(world).items()
    assert again.authority != first.authority and world.runtime.inits[-1][1]["caBundle"] == again.authority.certificate


async def test_a_change_that_fails_leaves_the_old_rules(world: Any, revisions: None) -> None:
    """Refused by the node, or for a paused sandbox: nothing of the new ones stays."""
    sandbox_id, name = await made(world)
    path, before = f"/sandboxes/{sandbox_id}", kept(world)
    node_says(world, name, Egress(rules="r2"), status="False", reason="NotIsolated")
    answer = await world.call("PUT", f"{path}/network", json={"rules": {"b.io": [{}]}})
    assert answer.status_code == 400 and "not supported where this sandbox runs" in (await answer.get_json())["message"]
    assert kept(world) == before
    await world.call("POST", f"{path}/pause")
    assert (await world.call("PUT", f"{path}/network", json={"rules": RULES})).status_code == 404
    assert kept(world) == before


async def test_rules_that_cannot_be_kept_fail_the_create(world: Any, revisions: None) -> None:
    """No sandbox is handed out without them, and the one that was taken goes."""
    world.cluster.fail = lambda verb, plural: (
        errors.ServerError(500, "InternalError", "no") if (verb, plural) == ("create", "secrets") else None
    )
    answer = await world.call("POST", "/v2/sandboxes", json={"templateID": "python", "network": {"rules": RULES}})
    assert answer.status_code >= 500 and SECRET.encode() not in await answer.get_data()
    skipping = {"metadata": {"e2b.agents.kruise.io/skip-init-runtime": "true"}, "network": {"rules": RULES}}
    answer = await world.call("POST", "/v2/sandboxes", json={"templateID": "python", **skipping})
    assert answer.status_code == 400 and "need the sandbox's /init" in (await answer.get_json())["message"]
