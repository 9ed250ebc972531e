"""The supervisor: order of start, order of stop, and what it says meanwhile.

Start: lock → layout → API server → (ready) → node → (ready) → controller and manager → (ready) → the default pool, if
asked for. Stop, on SIGINT or SIGTERM: manager first, so that clients are drained while sandboxes still live; then the
controller, so that nobody refills; then the node, which ends every sandbox and removes what it made on the box; the API
server last, for it holds what the others write. With ``--kubeconfig`` the cluster exists already: only controller and
manager are started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from appliance.api.address import parse_address, parse_domain
from appliance.box import certificates, lock, logs, resolver
from appliance.box.addresses import answers, require_free
from appliance.box.children import Child
from appliance.box.layout import Layout, write_private
from appliance.config import BoxSettings

logger = logging.getLogger(__name__)

READY_TIMEOUT = 60.0
RENEWAL_INTERVAL = 6 * 3600.0
"""Seconds between looks at how long the domain's certificate is still good."""


class Box:
    """The running roles of one box."""

    def __init__(self, settings: BoxSettings) -> None:
        self.settings = settings
        self.layout = Layout(settings.data_dir)
        self._children: list[Child] = []

    @property
    def api_url(self) -> str:
        """What clients put into ``E2B_API_URL``."""
        gateway = self.settings.gateway
        scheme = "https" if gateway.tls_cert and not gateway.tls_listen else "http"
        return f"{scheme}://{parse_address(gateway.listen, '--listen').local}"

    @property
    def authority(self) -> str | None:
        """Directory of the certificates clients must trust; None when TLS is off or the certificate is the user's."""
        own = self.settings.gateway.tls_cert == self.layout.tls / "domain.crt"
        return str(self.layout.tls) if own else None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, of this box or of the cluster that was named."""
        return self.settings.kubeconfig or self.layout.kubeconfig("admin")

    async def start(self) -> None:
        """Start every role and wait until all are ready.

        Raises:
            RuntimeError: a role did not come up; the message names the address that somebody else has, or carries
                the role's last log lines.
        """
        public = {"--listen": self.settings.gateway.listen, "--tls-listen": self.settings.gateway.tls_listen}
        cluster = {"--apiserver-listen": self.settings.apiserver_listen} if self.settings.kubeconfig is None else {}
        require_free(public | cluster)
        if cluster:
            await self._start_cluster(cluster)
        controller, manager = self._controller(), self._manager()
        await asyncio.gather(controller.start(), manager.start())
        await came_up(manager, self._serves, public)
        endpoints = {
            "api": self.api_url,
            "kubeconfig": str(self.kubeconfig),
            "domain": client_domain(self.settings),
            "authority": self.authority,
        }
        write_private(self.layout.endpoints, json.dumps(endpoints))

    async def stop(self) -> None:
        """Stop the roles in their order; never raises for a role that is already gone."""
        for name in ("manager", "controller", "node", "apiserver"):
            for child in self._children:
                if child.name == name:
                    await child.stop()

    async def _serves(self) -> bool:
        """Whether this box's manager does, not another's that got the address first."""
        own = self.layout.run / "manager.sock"
        return await answers("http://manager/health", socket=own) and await answers(f"{self.api_url}/health")

    async def _start_cluster(self, addresses: Mapping[str, str | None]) -> None:
        common = ["--data-dir", str(self.settings.data_dir)]
        apiserver = self._child("apiserver", [*common, "--apiserver-listen", self.settings.apiserver_listen])
        await apiserver.start()
        url, authority = f"https://{self.settings.apiserver_listen}/readyz", self.layout.tls / "ca.crt"
        await came_up(apiserver, lambda: answers(url, authority=authority), addresses)
        node = self._child(
            "node", [*common, "--isolation", self.settings.isolation, "--resolv-conf", str(self.settings.resolv_conf)]
        )
        await node.start()
        own = self.layout.run / "node.sock"
        await node.ready(lambda: answers("http://node/healthz", socket=own), READY_TIMEOUT)

    def _controller(self) -> Child:
        leader = ["--no-leader-election"] if self.settings.kubeconfig is None else []
        return self._child("controller", ["--kubeconfig", str(self._role_config("controller")), *leader])

    def _manager(self) -> Child:
        gateway = self.settings.gateway
        arguments = ["--kubeconfig", str(self._role_config("manager")), "--data-dir", str(self.settings.data_dir)]
        arguments += ["--listen", gateway.listen]
        if gateway.tls_cert and gateway.tls_key:
            arguments += ["--tls-cert", str(gateway.tls_cert), "--tls-key", str(gateway.tls_key)]
        if gateway.tls_listen:
            arguments += ["--tls-listen", gateway.tls_listen]
        domain = client_domain(self.settings)
        if domain:
            arguments += ["--domain", domain]
        return self._child("manager", arguments)

    def _role_config(self, role: str) -> Path:
        return self.settings.kubeconfig or self.layout.kubeconfig(role)

    def _child(self, role: str, arguments: Sequence[str]) -> Child:
        log = self.layout.logs / f"{role}.log"
        child = Child(
            role,
            [f"--role={role}", *arguments],
            log=log,
            backoff_max=self.settings.restart_backoff_max,
            stop_timeout=self.settings.stop_timeout,
            cleans_up=role == "node",
        )
        self._children.append(child)
        return child


async def came_up(child: Child, probe: Callable[[], Awaitable[bool]], addresses: Mapping[str, str | None]) -> None:
    """Wait until ``child`` is ready. One that lost the race for an address does not try for ever: the address is told.

    Raises RuntimeError; the child is stopped then.
    """
    try:
        await child.ready(probe, READY_TIMEOUT)
    except RuntimeError:
        await child.stop()
        require_free(addresses)
        raise


@contextlib.asynccontextmanager
async def running(settings: BoxSettings) -> AsyncIterator[Box]:
    """A started box for the duration of the block; everything is stopped afterwards, also when the start failed.

    Raises:
        AlreadyRunning: another supervisor holds the data directory.
        RuntimeError: a role did not come up.
    """
    layout = Layout(settings.data_dir)
    layout.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with lock.hold(layout.lock):
        layout.prepare(settings.apiserver_listen)
        box = Box(with_certificate(settings, layout))
        async with contextlib.AsyncExitStack() as stack:
            if settings.domain and settings.dns_listen:
                name = parse_domain(settings.domain, "--domain").name
                answer = answered_address(settings.gateway.tls_listen or settings.gateway.listen)
                await stack.enter_async_context(resolver.serving(settings.dns_listen, name, answer))
            keepers = [
                asyncio.create_task(logs.bound(layout.logs), name="logs"),
                asyncio.create_task(keep_renewed(settings, layout), name="certificate"),
            ]
            try:
                await box.start()
                yield box
            finally:
                for keeper in keepers:
                    keeper.cancel()
                await asyncio.shield(box.stop())
                layout.endpoints.unlink(missing_ok=True)


def answered_address(listen: str) -> str:
    """The IP address at which clients of the resolver find what listens on ``listen``.

    Where that is every address of the machine, the one by which the machine reaches others, else loopback.
    """
    address = parse_address(listen, "--tls-listen")
    if not address.everywhere:
        return socket.gethostbyname(address.host) if address.host == "localhost" else str(address.host)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # a documentation address: nothing is sent
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def with_certificate(settings: BoxSettings, layout: Layout) -> BoxSettings:
    """The settings with a certificate of the box's own authority where a domain and a TLS socket ask for one."""
    gateway = settings.gateway
    if not (settings.domain and gateway.tls_listen) or gateway.tls_cert:
        return settings
    certificates.ensure_domain(layout.tls, parse_domain(settings.domain, "--domain").name, write_private)
    own = replace(gateway, tls_cert=layout.tls / "domain.crt", tls_key=layout.tls / "domain.key")
    return replace(settings, gateway=own)


async def keep_renewed(settings: BoxSettings, layout: Layout, interval: float = RENEWAL_INTERVAL) -> None:
    """Renew the domain's certificate before its end, until cancelled; the gateway notices the new files by itself."""
    while True:
        await asyncio.sleep(interval)
        try:
            await asyncio.to_thread(with_certificate, settings, layout)
        except (OSError, ValueError) as error:
            logger.error("the certificate of %s could not be renewed: %s", settings.domain, error)


def client_domain(settings: BoxSettings) -> str | None:
    """The domain as clients must write it: with the port of the TLS socket unless that is 443 or one was given."""
    if settings.domain is None:
        return None
    domain, listen = parse_domain(settings.domain, "--domain"), settings.gateway.tls_listen
    if listen is None or domain.port is not None:
        return str(domain)
    return str(replace(domain, port=parse_address(listen, "--tls-listen").port))


async def until_signal() -> str:
    """Wait for SIGINT or SIGTERM and return its name."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[str] = loop.create_future()

    def note(which: signal.Signals) -> None:
        if not arrived.done():
            arrived.set_result(which.name)

    for which in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(which, note, which)
    return await arrived
