"""``--webhook-listen``: the HTTPS server that the API server asks before a pod is deleted or evicted.

Every replica serves, leader or not: what it needs is read from the API server at the question, which is rare. What
cannot be looked up is let through with a warning, as the configuration (``failurePolicy: Ignore``) lets everything
through when nobody answers: a cluster must be able to end pods while this program is down.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from appliance.api import kinds, podguard, times
from appliance.api.address import parse_address
from appliance.api.structs import Sandbox
from appliance.config import ControllerSettings
from appliance.controller.admission import keeping
from appliance.controller.admission.certificates import Material
from appliance.kube import errors
from appliance.kube.backoff import Backoff
from appliance.kube.cluster import Cluster

log = logging.getLogger(__name__)

PATH = "/validate-pods"
READY = "/readyz"
_CHECK = 60.0
"""Seconds between looks at the certificate and at who trusts it; fewer when it is renewed more often."""
_MAX_BODY = 3 * 1024 * 1024
"""The API server's own limit for an object."""


async def serve(cluster: Cluster, settings: ControllerSettings, listening: asyncio.Future[int] | None = None) -> None:
    """Serve until cancelled; ``listening`` gets the port.

    Raises OSError when the address cannot be listened on, ValueError when it is none.
    """
    address = parse_address(str(settings.webhook_listen), "--webhook-listen")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    renew = timedelta(seconds=settings.webhook_renew)
    material = await _first(cluster, renew)
    load(context, material)
    application = web.Application(client_max_size=_MAX_BODY)
    application.router.add_post(PATH, Guard(cluster, settings.controller_user).answer)
    application.router.add_get(READY, _ready)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host, address.port, ssl_context=context).start()
        if listening is not None:
            listening.set_result(runner.addresses[0][1])
        log.info("admission webhook on %s", settings.webhook_listen)
        await _keep(cluster, context, material, renew)
    finally:
        await _end(runner)


async def _end(runner: web.AppRunner) -> None:
    """Answer what was asked, then cut: asyncio keeps a closed TLS connection open until the peer closes it too."""
    open_ = [one.transport for one in runner.server.connections] if runner.server is not None else []
    await runner.cleanup()
    for transport in open_:
        if transport is not None:
            transport.abort()


async def _first(cluster: Cluster, renew: timedelta) -> Material:
    """The certificate, as soon as the cluster answers."""
    backoff = Backoff(0.2, 10.0)
    while True:
        try:
            material = await keeping.current(cluster, times.now(), renew)
        except errors.KubeError as error:
            log.warning("the webhook waits for its certificate: %s", error)
            await asyncio.sleep(backoff.next())
        else:
            await _trust(cluster, material)
            return material


async def _trust(cluster: Cluster, material: Material) -> bool:
    """Whether everybody is told to trust it."""
    try:
        await keeping.trust(cluster, material.bundle)
    except errors.KubeError as error:
        log.warning("the API server could not be told to trust the webhook: %s", error)
        return False
    return True


async def _keep(cluster: Cluster, context: ssl.SSLContext, loaded: Material, renew: timedelta) -> None:
    """Renew, trust, show. What a new authority signed is shown one look after everybody was told to trust it, by
    whichever replica: the API servers hear of the configuration by a watch.
    """
    pause, told = min(_CHECK, renew.total_seconds() / 2), loaded.bundle
    while True:
        await asyncio.sleep(pause)
        try:
            material = await keeping.current(cluster, times.now(), renew)
        except errors.KubeError as error:
            log.warning("the webhook's certificate could not be checked: %s", error)
            continue
        if not await _trust(cluster, material):
            continue
        if material != loaded and material.bundle == told:
            load(context, material)
            loaded = material
        told = material.bundle


def load(context: ssl.SSLContext, material: Material) -> None:
    """Use that certificate for connections from now on. The library reads files only: they live for a moment."""
    with tempfile.TemporaryDirectory(prefix="webhook-") as directory:
        path = Path(directory) / "tls.pem"
        path.touch(mode=0o600)
        path.write_text(material.certificate + material.key)
        context.load_cert_chain(path)


async def _ready(request: web.Request) -> web.Response:
    return web.Response(text="ok")


class Guard:
    """Answers AdmissionReviews about pods."""

    def __init__(self, cluster: Cluster, controller: str) -> None:
        self._cluster = cluster
        self._controller = controller

    async def answer(self, request: web.Request) -> web.Response:
        """POST of an AdmissionReview."""
        try:
            body = await request.json()
            review = body["request"]
            uid = str(review["uid"])
        except (ValueError, KeyError, TypeError):
            return web.json_response({"message": "expected an AdmissionReview with request.uid"}, status=400)
        verdict: dict[str, Any] = {"uid": uid, "allowed": True}
        try:
            problem = await self._problem(review)
        except errors.KubeError as error:
            log.warning("a deletion was not checked: %s", error)
            verdict["warnings"] = ["whether this pod is somebody's sandbox could not be checked"]
        else:
            if problem:
                verdict |= {"allowed": False, "status": {"code": 403, "reason": "Forbidden", "message": problem}}
        return web.json_response({"apiVersion": body.get("apiVersion"), "kind": "AdmissionReview", "response": verdict})

    async def _problem(self, review: Mapping[str, Any]) -> str:
        caller = review.get("userInfo") or {}
        if podguard.exempt(str(caller.get("username")), caller.get("groups") or (), self._controller):
            return ""
        evicted = review.get("subResource") == "eviction"
        pod = await self._pod(review) if evicted else review.get("oldObject") or {}
        found = podguard.sandbox_of(pod)
        if found is None:
            return ""
        sandbox = await self._sandbox(str(review.get("namespace")), found[0])
        return podguard.refusal(pod, sandbox, "evict" if evicted else "delete")

    async def _pod(self, review: Mapping[str, Any]) -> dict[str, Any]:
        try:
            namespace, name = str(review.get("namespace")), str(review.get("name"))
            return await self._cluster.get(kinds.POD, namespace, name, type=dict[str, Any])
        except errors.NotFound:
            return {}

    async def _sandbox(self, namespace: str, name: str) -> Sandbox | None:
        try:
            return await self._cluster.get(kinds.SANDBOX, namespace, name)
        except errors.NotFound:
            return None
