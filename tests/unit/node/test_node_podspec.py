"""Parsing of pod manifests."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.embedded.node.podspec import BadSpec, PodSpec, Probe, quantity
from appliance.embedded.node.unhonoured import unhonoured


def pod(**container: Any) -> dict[str, Any]:
    """A pod with one container."""
    return {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "c", **container}]},
    }


@pytest.mark.parametrize(
    ("text", "value"), [("500m", 0.5), ("1Gi", 2**30), ("2", 2), ("1e3", 1000), ("1.5k", 1500), ("64Mi", 64 * 2**20)]
)
def test_quantities(text: str, value: float) -> None:
    """Kubernetes' suffixes mean what they mean there."""
    assert quantity(text, "f") == value


@pytest.mark.parametrize("text", ["", "1Xi", "abc", "1 Gi", "Gi"])
def test_bad_quantity_names_the_field(text: str) -> None:
    """What is no quantity is refused with the field's name."""
    with pytest.raises(BadSpec, match=r"spec\.x"):
        quantity(text, "spec.x")


def test_limits_and_defaults() -> None:
    """Limits are limits, a missing request falls back to the limit, a missing disk limit to the node's default."""
    spec = PodSpec.parse(pod(resources={"limits": {"cpu": "1500m", "memory": "1Gi"}}))
    container = spec.containers[0]
    assert (container.cpu, container.cpu_request, container.memory) == (1.5, 1.5, 2**30)
    assert spec.disk(7) == 7
    assert (spec.restart, spec.grace) == ("Always", 30)


def test_a_tiny_memory_limit_is_refused() -> None:
    """A limit no process can start in is named before anything is started."""
    with pytest.raises(BadSpec, match=r"containers\[0\].resources.limits.memory"):
        PodSpec.parse(pod(resources={"limits": {"memory": "1Ki"}}))


def test_the_runtime_hook_is_recognised_and_chained() -> None:
    """The controller's postStart asks for the runtime; what follows ``--`` is the manifest's own hook."""
    command = ["/mnt/agent-runtime/appliance-runtime", "start", "--", "echo", "hi"]
    container = PodSpec.parse(pod(lifecycle={"postStart": {"exec": {"command": command}}})).containers[0]
    assert container.wants_runtime
    assert container.chained_hook() == ["echo", "hi"]
    plain = PodSpec.parse(pod(lifecycle={"postStart": {"exec": {"command": ["true"]}}})).containers[0]
    assert not plain.wants_runtime
    assert plain.chained_hook() == ["true"]


def test_probe_defaults() -> None:
    """Defaults are those of the API; a probe without an action is refused."""
    probe = Probe.parse({"tcpSocket": {"port": 1}}, "f")
    assert probe is not None
    assert (probe.initial_delay, probe.period, probe.timeout, probe.success, probe.failure) == (0, 10, 1, 1, 3)
    with pytest.raises(BadSpec, match="expected one of httpGet, tcpSocket, exec"):
        Probe.parse({"grpc": {}}, "f")


def test_hooks_are_commands_or_sleeps() -> None:
    """A sleep is carried out by the program of that name; what this node cannot do is refused by field."""
    spec = PodSpec.parse(pod(lifecycle={"preStop": {"sleep": {"seconds": 3}}}))
    assert spec.containers[0].hook("preStop") == ["sleep", "3"]
    with pytest.raises(BadSpec, match=r"containers\[0\]\.lifecycle\.preStop: expected exec or sleep, found httpGet"):
        PodSpec.parse(pod(lifecycle={"preStop": {"httpGet": {"port": 80}}}))


def test_fields_without_effect_are_named() -> None:
    """Security settings and host sharing that have no effect here are listed; defaults and the rest are not."""
    manifest = pod(securityContext={"runAsUser": 5, "capabilities": {"add": ["NET_ADMIN"]}}, tty=True)
    assert unhonoured(manifest) == ["spec.containers[0].tty", "spec.containers[0].securityContext.capabilities"]
    manifest["spec"] |= {"securityContext": {"fsGroup": 7}, "hostNetwork": True}
    assert unhonoured(manifest)[:2] == ["spec.hostNetwork", "spec.securityContext.fsGroup"]
    assert unhonoured({"spec": {"securityContext": {}, "containers": [{"name": "c", "securityContext": {}}]}}) == []
