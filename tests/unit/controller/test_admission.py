"""The admission webhook: its certificate's renewals, its verdicts over TLS, two replicas that renew at once."""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import UTC, datetime, timedelta

import aiohttp
import msgspec
import pytest
from cryptography import x509
from fake_cluster import FakeServer

from appliance.api import labels, podguard
from appliance.api.structs import Sandbox
from appliance.config import ControllerSettings
from appliance.controller.admission import keeping, webhook
from appliance.controller.admission.certificates import Material, renewed
from appliance.install.admission import PATH, objects

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ["a.b.svc"]


def authorities(material: Material) -> list[bytes]:
    found = x509.load_pem_x509_certificates(material.bundle.encode())
    return [one.subject.public_bytes() for one in found]


def test_certificates_are_renewed_when_due():
    """Fresh ones are kept; the leaf is renewed after two months; a new authority joins the old one while it counts."""
    first = renewed(None, NAMES, NOW)
    assert first is not None and renewed(first, NAMES, NOW + timedelta(days=59)) is None
    second = renewed(first, NAMES, NOW + timedelta(days=61))
    assert second is not None and second.bundle == first.bundle and second.certificate != first.certificate
    later = NOW + timedelta(days=3 * 365 - 100)
    third = renewed(second, NAMES, later)
    assert third is not None and len(authorities(third)) == 2 and authorities(third)[1:] == authorities(first)
    last = renewed(third, NAMES, later + timedelta(days=200))
    assert last is not None and len(authorities(last)) == 2  # the bundle is only made anew with the authority
    other = renewed(first, ["c.d.svc"], NOW)
    assert other is not None and other.bundle == first.bundle


@pytest.mark.parametrize("field", ["bundle", "authority_key", "certificate"])
def test_damaged_material_is_replaced(field):
    """Whatever somebody wrote into the Secret, usable material comes out."""
    first = renewed(None, NAMES, NOW)
    assert first is not None
    broken = Material(**{**vars(first), field: "nonsense"})
    fresh = renewed(broken, NAMES, NOW)
    assert fresh is not None and renewed(fresh, NAMES, NOW) is None


async def test_two_replicas_share_one_certificate():
    """Whoever writes first wins and the other reads it; the next look changes nothing."""
    server = FakeServer()
    one, other = server.cluster(), server.cluster()
    first, second = await asyncio.gather(keeping.current(one, NOW), keeping.current(other, NOW))
    assert first == second == await keeping.current(one, NOW)


POD = {
    "metadata": {
        "name": "one",
        "namespace": "default",
        "labels": {labels.CREATED_BY: labels.CREATED_BY_SANDBOX},
        "ownerReferences": [{"apiVersion": labels.API_VERSION, "kind": "Sandbox", "name": "one", "uid": "u"}],
    },
    "status": {"phase": "Running"},
}
POOL = [{"apiVersion": labels.API_VERSION, "kind": "SandboxSet", "name": "ci", "uid": "s", "controller": True}]


def sandbox(**meta):
    return msgspec.convert({"metadata": {"name": "one", "namespace": "default", "uid": "u", **meta}}, Sandbox)


def changed(**meta):
    return {**POD, "metadata": {**POD["metadata"], **meta}}


@pytest.mark.parametrize(
    ("pod", "owner", "refused"),
    [
        (POD, sandbox(), True),
        (POD, None, False),
        (POD, sandbox(uid="another"), False),
        (POD, sandbox(deletionTimestamp="2026-01-01T00:00:00Z"), False),
        (POD, sandbox(ownerReferences=POOL), False),
        ({**POD, "status": {"phase": "Failed"}}, sandbox(), False),
        (changed(deletionTimestamp="2026-01-01T00:00:00Z"), sandbox(), False),
        (changed(labels={}), sandbox(), False),
    ],
)
def test_the_rule(pod, owner, refused):
    """Only the living pod of a living sandbox that left its pool is protected, and the words name both."""
    said = podguard.refusal(pod, owner, "evict")
    assert bool(said) is refused
    if refused:
        assert "cannot evict pod default/one: corresponding sandbox exists" in said


def test_who_is_exempt():
    """The controller, kubelets and Kubernetes' own controllers; administrators are not."""
    assert podguard.exempt(ControllerSettings.controller_user, ())
    assert ControllerSettings.controller_user == podguard.CONTROLLER_USER
    assert podguard.exempt("system:node:a", ("system:nodes",))
    assert podguard.exempt("x", ("system:serviceaccounts:kube-system",))
    assert not podguard.exempt("admin", ("system:masters",))


def review(user="admin", *, evict=False):
    body = {"uid": "r", "namespace": "default", "name": "one", "userInfo": {"username": user, "groups": []}}
    told = {"subResource": "eviction", "operation": "CREATE"} if evict else {"operation": "DELETE", "oldObject": POD}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {**body, **told}}


async def test_served_over_tls_with_the_certificate_that_the_configuration_trusts():
    """A server with its own certificate answers deletions and evictions, and fills in caBundle."""
    server = FakeServer()
    configuration = next(one for one in objects(labels.SYSTEM_NAMESPACE) if one["kind"].startswith("Validating"))
    place = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    server.create(place, configuration)
    server.create("/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxes", {"metadata": {"name": "one"}})
    uid = server.of("sandboxes")[0]["metadata"]["uid"]
    pod = changed(ownerReferences=[{**POD["metadata"]["ownerReferences"][0], "uid": uid}])
    server.create("/api/v1/namespaces/default/pods", pod)
    cluster = server.cluster()
    applied: list[dict] = []

    async def apply(kind, namespace, name, body, *, manager, force):
        applied.append(body)

    cluster.apply = apply
    listening = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(webhook.serve(cluster, ControllerSettings(webhook_listen="127.0.0.1:0"), listening))
    try:
        port = await asyncio.wait_for(listening, 10)
        while not applied:
            await asyncio.sleep(0)
        bundle = base64.b64decode(applied[0]["webhooks"][0]["clientConfig"]["caBundle"]).decode()
        context = ssl.create_default_context(cadata=bundle)
        url = f"https://127.0.0.1:{port}{PATH}"
        async with aiohttp.ClientSession() as session:

            async def ask(body):
                options = {"json": body, "ssl": context, "server_hostname": keeping.names()[0]}
                async with session.post(url, **options) as answer:
                    return answer.status, await answer.json()

            first = review()
            first["request"]["oldObject"] = pod
            _, told = await ask(first)
            assert told["response"]["uid"] == "r" and not told["response"]["allowed"]
            assert "delete the Sandbox 'one' instead" in told["response"]["status"]["message"]
            assert not (await ask(review(evict=True)))[1]["response"]["allowed"]
            assert (await ask(review(ControllerSettings.controller_user, evict=True)))[1]["response"]["allowed"]
            assert (await ask({"request": {}}))[0] == 400
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
