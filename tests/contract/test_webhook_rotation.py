"""The admission webhook's certificates are made anew while a real API server asks it: nobody notices."""

from __future__ import annotations

import asyncio
import base64
import secrets
import ssl
from dataclasses import dataclass, field
from typing import Any

import pytest
from api_servers import ApiServer
from clouds import TEMPLATE, Cloud, cloud
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from guards import WAIT, guarded

from appliance.api import kinds, labels
from appliance.controller.admission import certificates, keeping, webhook

pytestmark = [pytest.mark.realkube, pytest.mark.timeout(240)]
RENEW = 3.0
"""Seconds after which a certificate is made anew; its authority after twice that."""
REPLICAS = 2
REFUSED = "corresponding sandbox exists"


@dataclass
class Watched:
    """What was seen, in order."""

    answers: list[str] = field(default_factory=list)
    """Of attempts that did not end as they should have."""
    bundles: list[tuple[bytes, ...]] = field(default_factory=list)
    """Authorities that the API server was told to trust."""
    shown: list[bytes] = field(default_factory=list)
    """Certificates that the first replica showed."""


async def attempt(server: ApiServer, namespace: str, watched: Watched) -> None:
    """A deletion and an eviction of a sandbox's pod, by an administrator: the webhook's own refusal, nothing else."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "mine"}}
    path = f"/api/v1/namespaces/{namespace}/pods/mine"
    for method, place, body in (("DELETE", f"{path}?dryRun=All", None), ("POST", f"{path}/eviction", eviction)):
        code, answer = await asyncio.to_thread(server.request, method, place, body)
        if code != 403 or REFUSED not in answer["message"]:
            watched.answers.append(f"{method} {code} {answer}")


async def look(found: Cloud, port: int, watched: Watched) -> None:
    """What is trusted, and what a client that trusts it is shown: the handshake fails when they do not fit."""
    configuration = await found.user.get(
        kinds.VALIDATINGWEBHOOK, None, labels.WEBHOOK_CONFIGURATION, type=dict[str, Any]
    )
    bundle = base64.b64decode(configuration["webhooks"][0]["clientConfig"]["caBundle"])
    authorities = tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(bundle))
    if authorities not in watched.bundles[-1:]:
        watched.bundles.append(authorities)
    certificate = await shown(port, bundle.decode())
    if certificate not in watched.shown[-1:]:
        watched.shown.append(certificate)


async def shown(port: int, bundle: str) -> bytes:
    """The certificate that a server shows to who trusts that bundle. Raises ssl.SSLError."""
    context = ssl.create_default_context(cadata=bundle)
    _, writer = await asyncio.open_connection("localhost", port, ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    assert isinstance(certificate, bytes)
    return certificate


async def test_certificates_are_made_anew_while_they_are_used(
    real_apiserver: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two authorities and several certificates follow each other under deletions and evictions, one every 100 ms, each
    asked of both replicas over a new connection: each is refused as it should be, what the API server trusts always
    overlaps with what it trusted before, and the first keys and the first authority are gone.
    """
    monkeypatch.setattr(certificates, "AUTHORITY_TURNS", 2)
    answer = webhook.Guard.answer

    async def closing(self: webhook.Guard, request: Any) -> Any:
        response = await answer(self, request)
        response.force_close()
        return response

    monkeypatch.setattr(webhook.Guard, "answer", closing)
    namespace = f"rotation-{secrets.token_hex(4)}"
    await asyncio.to_thread(real_apiserver.request, "POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    async with (
        cloud(real_apiserver, namespace) as found,
        guarded(found, real_apiserver, monkeypatch, replicas=REPLICAS, webhook_renew=RENEW) as ports,
    ):
        await found.user.create(
            kinds.SANDBOX, namespace, {"metadata": {"name": "mine"}, "spec": {"template": TEMPLATE}}
        )
        await found.world.sandboxes.wait_for(
            namespace, "mine", lambda item: item is not None and item.status.phase == "Running", WAIT
        )
        watched, first = Watched(), await keeping.current(found.world.cluster, found.world.clock())
        async with asyncio.timeout(WAIT):  # the API server hears of a new configuration in a moment
            while True:
                await attempt(real_apiserver, namespace, watched)
                if not watched.answers:
                    break
                watched.answers.clear()
        async with asyncio.timeout(2 * WAIT):
            while len(watched.bundles) < 3 or len(watched.shown) < 5:
                await attempt(real_apiserver, namespace, watched)
                await look(found, ports[0], watched)
                await asyncio.sleep(0.1)
        assert watched.answers == []
        for before, after in zip(watched.bundles, watched.bundles[1:], strict=False):
            assert set(before) & set(after), "nothing that was trusted before is trusted now"
        last = await keeping.current(found.world.cluster, found.world.clock())
        assert not {first.key, first.authority_key, first.certificate} & set(vars(last).values())
        assert watched.bundles[0][0] not in watched.bundles[-1]
        with pytest.raises(ssl.SSLCertVerificationError):
            await shown(ports[0], first.bundle)
