"""``--role=apiserver``: open the store, load the kinds, serve until told to stop.

Start order: store → kinds (built-in, then stored CRDs, then ours preloaded) → namespaces → loops → listener. Stop:
no new connections, watches end, requests in flight finish, loops stop, the store writes what is staged and closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from appliance.api.address import parse_address
from appliance.config import ApiServerSettings
from appliance.embedded.apiserver.auth import Tokens
from appliance.embedded.apiserver.backend import Backend
from appliance.embedded.apiserver.builtin import builtin_resources
from appliance.embedded.apiserver.control import crds, expiry
from appliance.embedded.apiserver.control.garbage import GarbageCollector
from appliance.embedded.apiserver.control.namespaces import Emptier, ensure_namespaces
from appliance.embedded.apiserver.listener import Listener
from appliance.embedded.apiserver.objects.crd_rules import resource_of
from appliance.embedded.apiserver.objects.meta import copy_json
from appliance.embedded.apiserver.relay import NodeRelay
from appliance.embedded.apiserver.resources import Registry
from appliance.embedded.apiserver.server import Server
from appliance.embedded.apiserver.store.database import Database
from appliance.embedded.apiserver.store.store import Store
from appliance.embedded.apiserver.verbs import writer

log = logging.getLogger(__name__)
SHUTDOWN_TIMEOUT = 5.0
"""Seconds for requests in flight at the end."""
SWITCH_INTERVAL = 0.0005
"""Seconds after which the store's thread gets the interpreter from a busy loop (Python's default is ten times that)."""


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started server: its base URL and its insides (for tests)."""

    url: str
    backend: Backend


async def run(settings: ApiServerSettings) -> None:
    """Serves until SIGTERM, SIGINT or cancellation; StoreError or SettingsError when it cannot start."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    async with serving(settings) as running:
        log.info("serving on %s, resourceVersion %d", running.url, running.backend.store.version)
        await stop.wait()
        log.info("stopping")


@contextlib.asynccontextmanager
async def serving(
    settings: ApiServerSettings, custom: Iterable[dict[str, Any]] | None = None
) -> AsyncIterator[Running]:
    """A server for the duration of the block. ``custom``: CRDs to preload instead of the product's own."""
    host, port = parse_listen(settings.listen)
    registry = Registry(builtin_resources())
    store = Store(Database(settings.data_dir / "store" / "state.db"), settings.watch_history)
    backend = Backend(settings, store, registry, NodeRelay(settings.data_dir / "run" / "node.sock"))
    await store.open(_loader(registry))
    backend.relay.start()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        stack.push_async_callback(backend.relay.close)
        await stack.enter_async_context(_task(store.run(), "store"))
        await _prepare(backend, custom)
        for name, loop_ in _loops(backend):
            await stack.enter_async_context(_task(loop_, name))
        server = _http(backend, Tokens(settings.data_dir / "run" / "tokens.json"))
        tls = _tls(settings)
        try:
            listener = Listener(host, port, server, tls)
        except OSError as error:
            raise SettingsError(f"listen: cannot bind {settings.listen}: {error}") from None
        stack.push_async_callback(_stop, backend, listener, server)
        listener.start()
        shown, bound = listener.address
        shown = f"[{shown}]" if ":" in shown else shown
        yield Running(f"{'https' if tls else 'http'}://{shown}:{bound}", backend)


def parse_listen(text: str) -> tuple[str, int]:
    """``HOST:PORT`` on loopback; SettingsError otherwise."""
    try:
        address = parse_address(text, "listen")
        if address.host is not None and (address.host == "localhost" or ipaddress.ip_address(address.host).is_loopback):
            return address.host, address.port
    except ValueError:
        pass
    raise SettingsError(f"listen: expected HOST:PORT on loopback, for example 127.0.0.1:16443, got {text!r}")


def _tls(settings: ApiServerSettings) -> ssl.SSLContext | None:
    """The server's TLS context, or None for plain HTTP alone."""
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"tls_cert {settings.tls_cert}, tls_key {settings.tls_key}: {error}") from None
    return context


def _loader(registry: Registry) -> Callable[[str], Iterable[str]]:
    """Selectable fields while loading: built-in kinds are known, custom kinds get theirs in ``_prepare``."""

    def selectable(resource: str) -> Iterable[str]:
        res = registry.by_key(resource)
        return res.selectable if res is not None else ()

    return selectable


async def _prepare(backend: Backend, custom: Iterable[dict[str, Any]] | None) -> None:
    store, registry = backend.store, backend.registry
    for record in store.items(crds.CRDS):
        resource = crds.serve_crd(registry, record)
        if resource is not None and resource.selectable:
            store.reindex(resource.key, resource.selectable)
    store.listen(lambda changes: crds.follow(registry, changes))
    await ensure_namespaces(backend)
    for crd in _own_crds() if custom is None else custom:
        await _preload(backend, crd)


def _own_crds() -> list[dict[str, Any]]:
    from appliance.api.crds import all_crds

    return all_crds()


async def _preload(backend: Backend, crd: dict[str, Any]) -> None:
    """Stores one of the product's CRDs, or brings the stored one up to date."""
    res = backend.registry.by_key(crds.CRDS)
    assert res is not None
    errors: list[Any] = []
    if resource_of(copy_json(crd), errors) is None:
        raise SettingsError(f"CRD {crd['metadata']['name']}: {'; '.join(map(str, errors))}")
    opts = writer.Options(manager="appliance")
    record = backend.store.peek(crds.CRDS, "", crd["metadata"]["name"])
    if record is None:
        outcome = writer.create(backend, res, None, copy_json(crd), opts, [])
    else:
        new = copy_json(crd)
        new["metadata"] = record.object()["metadata"]
        outcome = writer.update(backend, res, record, record.object(), new, opts)
    await outcome.durable()


def _loops(backend: Backend) -> Iterable[tuple[str, Any]]:
    collector, emptier = GarbageCollector(backend), Emptier(backend)
    for loop in (collector, emptier):
        backend.store.listen(loop.listen)
        loop.scan()
    return (("garbage", collector.run()), ("namespaces", emptier.run()), ("events", expiry.run(backend)))


def _http(backend: Backend, tokens: Tokens) -> web.Server:
    handler = Server(backend, tokens).handle
    return web.Server(handler, access_log=None, keepalive_timeout=75.0, lingering_time=2.0)


async def _stop(backend: Backend, listener: Listener, server: web.Server) -> None:
    backend.stopping.set()
    await listener.close()
    backend.store.wake_all()
    server.pre_shutdown()
    await server.shutdown(SHUTDOWN_TIMEOUT)


@contextlib.asynccontextmanager
async def _task(work: Any, name: str) -> AsyncIterator[None]:
    """Runs ``work`` in the background of the block; its unexpected end is logged."""
    task = asyncio.create_task(work, name=f"apiserver-{name}")
    task.add_done_callback(_report)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("%s ended unexpectedly", task.get_name(), exc_info=task.exception())
