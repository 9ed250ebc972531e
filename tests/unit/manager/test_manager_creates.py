"""Creating: every option honoured or refused by name, replays, abandoned requests."""

import asyncio
from typing import Any

import pytest

from appliance.api import labels
from appliance.api.egress import CLOSED, OPEN, Egress, egress_of, reason
from appliance.api.kinds import POD
from appliance.manager.roster import traffic_token

REFUSED = [
    ({"timeout": 0}, "Timeout must be greater than 0"),
    ({"timeout": -5}, "Timeout must be greater than 0"),
    ({"timeout": 10**9}, "Timeout cannot be greater than 720 hours"),
    ({"timeout": "60"}, "validation error: timeout"),
    ({"timeout": 1.5}, "validation error: timeout"),
    ({"metadata": {"a": 1}}, "validation error: metadata.a"),
    ({"metadata": {"label:agents.kruise.io/sandbox-id": "x"}}, "metadata.label:agents.kruise.io/sandbox-id"),
    ({"metadata": {"label:a": "no spaces"}}, "metadata.label:a"),
    ({"metadata": {"agents.kruise.io/owner": "me"}}, "reserved"),
    ({"metadata": {"e2b.agents.kruise.io/recycle": "1"}}, "e2b.agents.kruise.io/recycle is not supported"),
    ({"metadata": {"e2b.agents.kruise.io/never-timeout": "yes"}}, 'expected "true" or "false"'),
    ({"metadata": {"k": "x" * 70_000}}, "metadata: expected at most"),
    ({"envVars": {"A=B": "1"}}, "envVars"),
    ({"envVars": {"A": "\x00"}}, "envVars.A"),
    ({"volumeMounts": [{"name": "v", "path": "/v"}]}, "volumeMounts is not supported"),
    ({"iam": {"tokens": {"a": {"audience": "x"}}}}, "iam.tokens is not supported"),
    ({"network": {"allowOut": ["example.com"]}}, "you must include 'ALL_TRAFFIC' in deny out"),
    ({"network": {"allowOut": ["*.a.io"], "denyOut": ["10.0.0.0/8"]}}, "you must include 'ALL_TRAFFIC' in deny out"),
    ({"network": {"allowOut": ["a.io", "8.8.8.8"]}}, "you must include 'ALL_TRAFFIC' in deny out"),
    ({"network": {"allowOut": ["no domain!"], "denyOut": ["0.0.0.0/0"]}}, "network.allowOut: expected an IP address"),
    ({"network": {"allowOut": ["a.*.io"], "denyOut": ["0.0.0.0/0"]}}, "network.allowOut: expected an IP address"),
    ({"network": {"allowOut": ["300.1.1.1"], "denyOut": ["0.0.0.0/0"]}}, "network.allowOut: expected an IP address"),
    ({"network": {"denyOut": ["0.0.0.0/0", "*.a.io"]}}, "domains can only be allowed"),
    ({"network": {"allowIn": ["1.1.1.1"]}}, "network.allowIn is not supported"),
    ({"network": {"denyIn": ["0.0.0.0/0:80"]}}, "network.denyIn is not supported"),
    ({"network": {"httpsPorts": [49983]}}, "network.httpsPorts: 49983 is the runtime's own port"),
    ({"network": {"httpsPorts": [0]}}, "validation error: network.httpsPorts.0"),
    ({"network": {"httpsPorts": ["8443"]}}, "validation error: network.httpsPorts.0"),
    ({"network": {"httpsPorts": [443] * 101}}, "validation error: network.httpsPorts"),
    ({"network": {"httpsPorts": [443, 80, 443]}}, "network.httpsPorts: expected each port once, got 443 twice"),
    ({"network": {"allowOut": ["2001:db8::1"]}}, "sandboxes have no IPv6"),
    ({"network": {"denyOut": ["example.com"]}}, "network.denyOut: expected an IP address"),
    ({"network": {"denyOut": ["1.1.1.1"] * 1001}}, "network.denyOut: expected at most 1000"),
    ({"network": {"dnsServers": ["1.1.1.1/32"]}}, "network.dnsServers: expected an IPv4 address, got '1.1.1.1/32'"),
    ({"network": {"dnsServers": ["::1"]}}, "network.dnsServers: expected an IPv4 address"),
    ({"network": {"dnsServers": ["1.1.1.1"] * 11}}, "network.dnsServers: expected at most 10"),
    ({"network": {"dnsServers": ["192.168.1.1"]}}, "network.dnsServers is not supported by this server: 192.168.1.1"),
    ({"network": {"rules": {"a.b": [{"transform": {"header": {}}}]}}}, "network.rules.a.b.0.transform.header"),
    ({"network": {"denyOutt": ["0.0.0.0/0"]}}, "network.denyOutt"),
    ({"network": {"egressProxy": {"address": "a:1"}}}, "network.egressProxy is not supported"),
    ({"network": {"maskRequestHost": "a b"}}, "network.maskRequestHost"),
    ({"network": {"maskRequestHost": ""}}, "network.maskRequestHost"),
    ({"network": {"maskRequestHost": "a.b:99999"}}, "network.maskRequestHost"),
    ({"network": {"maskRequestHost": "a.b:${PORTS}"}}, "network.maskRequestHost"),
    ({"network": {"maskRequestHost": "http://a.b"}}, "network.maskRequestHost"),
    ({"network": {"maskRequestHost": "a.b\r\nX: y"}}, "network.maskRequestHost"),
    ({"network": {"allowOut": ["a" * 60 + f".{n}.io" for n in range(600)], "denyOut": ["0.0.0.0/0"]}}, "characters"),
    ({"autoPauseMemory": False}, "needs autoPause"),
    ({"autoPause": True, "autoPauseMemory": False}, "autoPauseMemory: false is not supported"),
    ({"templateID": "python:v9"}, "tag 'v9' does not exist"),
    ({"templateID": "no such!"}, "templateID"),
]


@pytest.mark.parametrize(("body", "message"), REFUSED, ids=lambda value: str(value)[:40])
async def test_what_cannot_be_honoured_is_refused_by_name(world: Any, body: dict[str, Any], message: str) -> None:
    """A wrong or unsupported option is a 400 (404 for tags) that names it, and takes nothing from the pool."""
    answer = await world.call("POST", "/v2/sandboxes", json={"templateID": "python", **body})
    told = await answer.get_json()
    assert answer.status_code in (400, 404) and told["code"] == answer.status_code
    assert message in told["message"]
    assert world.engine.stock("default", "python") == 3


async def test_defaults_of_v1_and_v2(world: Any) -> None:
    """v1: 15 s and no token unless asked; v2: 300 s and always one."""
    first = await world.create("")
    assert "envdAccessToken" not in first and "accessToken" not in world.runtime.inits[0][1]
    secured = await world.create("", secure=True, templateID="default/Python:default")
    assert secured["envdAccessToken"] == world.runtime.inits[1][1]["accessToken"]
    second = await world.create("/kruise/api/v2")
    assert "envdAccessToken" in second
    detail = await (await world.call("GET", f"/sandboxes/{first['sandboxID']}-client")).get_json()
    assert detail["sandboxID"] == first["sandboxID"]


async def test_a_private_sandbox_has_a_traffic_token_on_user_ports_only(world: Any) -> None:
    """allowPublicTraffic: false gives a token, demanded on every port but envd's; the mask applies there too."""
    network = {"allowPublicTraffic": False, "maskRequestHost": "x.example.com:${PORT}"}
    made = await world.create(network=network)
    sandbox_id = made["sandboxID"]
    assert made["trafficAccessToken"] == traffic_token(b"s" * 32, sandbox_id) != made["envdAccessToken"]
    route = world.routes.resolve(sandbox_id, 8080)
    assert (route.traffic_token, route.mask_host) == (made["trafficAccessToken"], "x.example.com:${PORT}")
    envd = world.routes.resolve(sandbox_id, labels.PORT_ENVD)
    assert envd.traffic_token is None and envd.mask_host is None and envd.token == made["envdAccessToken"]
    assert (await (await world.call("GET", f"/sandboxes/{sandbox_id}")).get_json())["network"] == network
    answer = await world.call("POST", "/sandboxes", json={"templateID": "python", "network": network})
    assert "without public access unless you enable secure" in (await answer.get_json())["message"]


async def test_https_ports_are_dialled_with_tls_and_outlive_an_update(world: Any) -> None:
    """Only the ports named, also after the egress part was replaced; GET tells them."""
    made = await world.create(network={"httpsPorts": [8443, 3000]})
    sandbox_id = made["sandboxID"]
    for _ in range(2):
        tls = {port: world.routes.resolve(sandbox_id, port).tls for port in (8443, 3000, 8080, labels.PORT_ENVD)}
        assert tls == {8443: True, 3000: True, 8080: False, labels.PORT_ENVD: False}
        told = await (await world.call("GET", f"/sandboxes/{sandbox_id}")).get_json()
        assert told["network"] == {"httpsPorts": [8443, 3000]}
        assert (await world.call("PUT", f"/sandboxes/{sandbox_id}/network", json={})).status_code == 204


@pytest.mark.parametrize("body", [{"allow_internet_access": False}, {"network": {"denyOut": ["0.0.0.0/0"]}}])
async def test_no_internet_is_confirmed_by_the_node(world: Any, body: dict[str, Any]) -> None:
    """The create returns only after the pod reports that its network is cut."""
    cut = {"type": labels.CONDITION_NETWORK, "status": "True", "reason": "InternetDenied"}
    for number in range(3):
        world.cluster.change(POD, "default", f"python-{number}", {"status": {"conditions": [cut]}})
    made = await world.create(**body)
    stored = world.stored(made["sandboxID"])
    pod = world.cluster.objects["pods", "default", stored["metadata"]["name"]]
    for one in (stored["metadata"], pod["metadata"]):
        assert egress_of(one.get("labels", {}), one.get("annotations", {})) == CLOSED


@pytest.mark.parametrize(
    "body",
    [
        {"allow_internet_access": False},
        {"network": {"denyOut": ["0.0.0.0/0"]}},
        {"network": {"rules": {"a.io": [{"transform": {"headers": {"X": "y"}}}]}}},
    ],
)
async def test_a_cluster_that_enforces_nothing_refuses_by_name(world: Any, body: dict[str, Any]) -> None:
    """On create and on update a 400 that names the option, and nothing is taken; opening stays allowed."""
    world.cluster.objects.pop(("nodes", "", "enforcing"))
    made = await world.create()
    stock = world.engine.stock("default", "python")
    for method, path, sent in (
        ("POST", "/v2/sandboxes", {"templateID": "python", **body}),
        ("PUT", f"/sandboxes/{made['sandboxID']}/network", {**body.get("network", body)}),
    ):
        answer = await world.call(method, path, json=sent)
        assert answer.status_code == 400
        assert "no node of this cluster enforces" in (await answer.get_json())["message"]
    assert world.engine.stock("default", "python") == stock


REFUSED_UPDATES = [
    ({"denyOut": ["example.com"]}, "denyOut: expected an IP address"),
    ({"denyOut": ["not-a-cidr"]}, "denyOut: expected an IP address"),
    ({"allowOut": ["example.com"]}, "you must include 'ALL_TRAFFIC' in deny out"),
    ({"allowOut": ["*.example.com"], "denyOut": ["10.0.0.0/8"]}, "you must include 'ALL_TRAFFIC' in deny out"),
    ({"dnsServers": ["one"]}, "dnsServers: expected an IPv4 address"),
    ({"rules": {"a.io": [{"transforms": {}}]}}, "rules.a.io.0.transforms"),
    ({"rules": {"a_io!": []}}, 'Rule domain "a_io!" is not a valid domain name.'),
    ({"deny_out": ["0.0.0.0/0"]}, "deny_out"),
    ({"egressProxy": {"address": "a:1"}}, "egressProxy is not supported"),
    ({"denyIn": ["0.0.0.0/0"]}, "denyIn is not supported"),
    ({"maskRequestHost": "b.c"}, "maskRequestHost is not supported"),
    ({"allowPublicTraffic": False}, "allowPublicTraffic is not supported"),
    ({"httpsPorts": [8443]}, "httpsPorts is not supported"),
]


async def test_network_lists_reach_the_pod_and_can_be_replaced(world: Any) -> None:
    """Lists become the pod's policy; PUT replaces them, keeps what it does not name, and {} opens; paused is 404."""

    def node_says(name: str, policy: Egress) -> None:
        told = {"type": labels.CONDITION_NETWORK, "status": "True", "reason": reason(policy)}
        world.cluster.change(POD, "default", name, {"status": {"conditions": [told]}})

    first = Egress(("198.51.100.0/24",), ("0.0.0.0/0",))
    for number in range(3):
        node_says(f"python-{number}", first)
    asked = {"allowOut": ["198.51.100.7/24"], "denyOut": ["0.0.0.0/0", "::/0"], "maskRequestHost": "a.b"}
    sandbox_id = (await world.create(network=asked))["sandboxID"]
    name, path = world.stored(sandbox_id)["metadata"]["name"], f"/sandboxes/{sandbox_id}"

    def pod() -> Egress:
        meta = world.cluster.objects["pods", "default", name]["metadata"]
        return egress_of(meta.get("labels", {}), meta.get("annotations", {}))

    domains = Egress((), ("0.0.0.0/0",), ("*.a.io", "a.io"))
    no_dns: dict[str, Any] = {"allowOut": ["a.io"], "denyOut": ["0.0.0.0/0"], "dnsServers": []}
    own_dns = {**no_dns, "allowOut": ["a.io", "1.1.1.1"], "dnsServers": ["9.9.9.9"]}
    assert pod() == first
    for update, policy, echo in (
        ({"denyOut": ["203.0.113.5"]}, Egress(deny=("203.0.113.5/32",)), {"denyOut": ["203.0.113.5"]}),
        ({"allow_internet_access": False}, CLOSED, {}),
        ({"allowOut": ["1.1.1.1"]}, Egress(("1.1.1.1/32",), ("0.0.0.0/0",)), {"allowOut": ["1.1.1.1"]}),
        ({"allowOut": ["*.A.io", "a.io", "a.io."]}, domains, {"allowOut": ["*.A.io", "a.io", "a.io."]}),
        (own_dns, Egress(("1.1.1.1/32", "9.9.9.9/32"), ("0.0.0.0/0",), ("a.io",), dns=False), own_dns),
        (no_dns, Egress((), ("0.0.0.0/0",), ("a.io",), dns=False), no_dns),
        ({"dnsServers": ["9.9.9.9"], "allow_internet_access": False}, CLOSED, {"dnsServers": ["9.9.9.9"]}),
        ({"allow_internet_access": True}, OPEN, {}),
    ):
        node_says(name, policy)
        answer = await world.call("PUT", f"{path}/network", json=update)
        assert answer.status_code == 204, await answer.get_data()
        assert pod() == policy
        detail = await (await world.call("GET", path)).get_json()
        assert detail["network"] == {"maskRequestHost": "a.b", **echo}
    assert world.routes.resolve(sandbox_id, 80).mask_host == "a.b"
    assert (await world.call("PUT", f"{path}/network", json={}, key="")).status_code == 401
    assert (await world.call("PUT", f"/sandboxes/{'i' + '0' * 20}/network", json={})).status_code == 404
    for update, message in REFUSED_UPDATES:
        answer = await world.call("PUT", f"{path}/network", json=update)
        assert answer.status_code == 400 and message in (await answer.get_json())["message"]
    await world.call("POST", f"{path}/pause")
    assert (await world.call("PUT", f"{path}/network", json={})).status_code == 404


async def test_the_same_idempotency_key_gives_the_same_sandbox(world: Any) -> None:
    """Replays, also concurrent ones, get the first sandbox; another body is refused; another key makes another."""
    body = {"templateID": "python", "timeout": 60}
    headers = {"Idempotency-Key": "abc-1"}
    answers = await asyncio.gather(*(world.call("POST", "/v2/sandboxes", json=body, headers=headers) for _ in range(3)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({(await answer.get_json())["sandboxID"] for answer in answers}) == 1
    other = await world.call("POST", "/v2/sandboxes", json={**body, "timeout": 61}, headers=headers)
    assert other.status_code == 422
    fresh = await world.call("POST", "/v2/sandboxes", json=body, headers={"Idempotency-Key": "abc-2"})
    assert fresh.status_code == 201 and world.engine.stock("default", "python") == 1
    bad = await world.call("POST", "/v2/sandboxes", json=body, headers={"Idempotency-Key": "no spaces"})
    assert bad.status_code == 400


async def test_an_empty_pool_asks_to_come_back(world: Any) -> None:
    """429 with Retry-After and Should-Retry when nothing may be made."""
    orders = {f"{labels.E2B_PREFIX}create-on-no-stock": "false"}
    for _ in range(3):
        await world.create(metadata=orders)
    answer = await world.call("POST", "/v2/sandboxes", json={"templateID": "python", "metadata": orders})
    assert answer.status_code == 429 and (await answer.get_json())["code"] == 429
    assert int(answer.headers["Retry-After"]) >= 1 and answer.headers["Should-Retry"] == "true"


async def test_never_timeout_has_the_zero_end(world: Any) -> None:
    """The extension leaves no timers, and endAt is the zero instant."""
    made = await world.create(metadata={f"{labels.E2B_PREFIX}never-timeout": "true", "k": "v"})
    spec = world.stored(made["sandboxID"])["spec"]
    assert "shutdownTime" not in spec and "pauseTime" not in spec
    detail = await (await world.call("GET", f"/sandboxes/{made['sandboxID']}")).get_json()
    assert detail["endAt"].startswith("0001-01-01T00:00:00") and detail["metadata"] == {"k": "v"}


async def test_labels_are_mirrored(world: Any) -> None:
    """label:K becomes a label, and the metadata still reads as given."""
    made = await world.create(metadata={"label:team.io/a": "b", "plain": "x", "k8s.io/y": "1"})
    meta = world.stored(made["sandboxID"])["metadata"]
    assert meta["labels"]["team.io/a"] == "b" and meta["annotations"]["plain"] == "x"
    assert "k8s.io/y" not in meta["annotations"]
    detail = await (await world.call("GET", f"/sandboxes/{made['sandboxID']}")).get_json()
    assert detail["metadata"] == {"label:team.io/a": "b", "plain": "x", "k8s.io/y": "1"}
