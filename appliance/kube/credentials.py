"""Who we are to the cluster, and where it is: a pod's account, a box's kubeconfig, and all others by ``kubernetes``.

This is the only module that imports the ``kubernetes`` package, and only for a kubeconfig that somebody else wrote, so
that roles without a cluster, in pods and on a box never pay for it. It takes over what that package knows about
configuration files and credentials (its API clients are not used: eighty times slower than ours on lists) and adds what
it leaves out: errors instead of log lines when an exec plugin fails, deadlines, and renewal of tokens *and* client
certificates.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.kube import plainconfig, serviceaccount
from appliance.kube.errors import ConfigError

_FILE_PERIOD = 60.0
"""Seconds after which a token file is read again; the kubelet rotates them long before they expire."""
_FORCE_PERIOD = 5.0
"""Seconds between two reloads caused by refusals, so that wrong credentials do not start a plugin per request."""
_EXPIRY_MARGIN = 60.0
"""Seconds before its end at which a plugin's credential is renewed."""


@dataclass(frozen=True)
class Access:
    """One snapshot of the way in."""

    server: str
    """URL without a trailing slash."""
    authorization: str | None
    """Value of the Authorization header."""
    tls: ssl.SSLContext | None
    """None for plain HTTP."""
    server_name: str | None = None
    """Name expected in the server's certificate, when not the URL's."""
    proxy: str | None = None
    renew_at: float | None = None
    """``time.monotonic`` instant after which this should be loaded again; None: never by itself."""


Load = Callable[[], Awaitable[Access]]


class Credentials:
    """Hands out the current ``Access`` and renews it, one load at a time."""

    def __init__(self, load: Load, *, timeout: float) -> None:
        self._load = load
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._access: Access | None = None
        self._loaded_at = 0.0

    async def current(self) -> Access:
        """The way in, renewed when it is about to end. Raises ConfigError when it cannot be loaded."""
        access = self._access
        if access is not None and (access.renew_at is None or time.monotonic() < access.renew_at):
            return access
        async with self._lock:
            if self._access is access:
                self._access = await self._reload(access)
            assert self._access is not None
            return self._access

    async def renew(self, refused: Access) -> bool:
        """The server refused ``refused``: load again. True when there is something different to try."""
        async with self._lock:
            if self._access is not refused:
                return True
            if time.monotonic() - self._loaded_at < _FORCE_PERIOD:
                return False
            self._access = await self._reload(None)
            return self._access.authorization != refused.authorization or self._access.tls is not refused.tls

    async def _reload(self, previous: Access | None) -> Access:
        """Load; while an old snapshot exists, a failure to renew it is not yet a failure to connect."""
        try:
            async with asyncio.timeout(self._timeout):
                access = await self._load()
        except TimeoutError as error:
            raise ConfigError(
                f"credentials: not ready after {self._timeout:g} s (an exec plugin that hangs?)"
            ) from error
        except ConfigError:
            if previous is None:
                raise
            self._loaded_at = time.monotonic()
            return Access(**{**vars(previous), "renew_at": time.monotonic() + _FORCE_PERIOD})
        self._loaded_at = time.monotonic()
        return access


def from_kubeconfig(path: Path) -> Load:
    """A loader for a kubeconfig file (or several, joined with the path separator as in ``KUBECONFIG``)."""
    contexts: dict[tuple[Any, ...], ssl.SSLContext] = {}

    async def load() -> Access:
        if (plain := plainconfig.read(path)) is not None:
            return _plain_access(plain, contexts)
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.config import load_kube_config

        _require_file(path)
        configuration = Configuration()
        configuration.proxy = None  # only the kubeconfig's own proxy-url counts, never the environment's
        try:
            loader = await load_kube_config(str(path), client_configuration=configuration, persist_config=False)
        except Exception as error:  # the package raises ConfigException, but also TypeError, KeyError, YAMLError
            raise ConfigError(f"kubeconfig {path}: not usable: {error}") from error
        _require_credential(path, loader)
        return _access(configuration, contexts, _renew_at(loader))

    return load


def in_cluster() -> Load:
    """A loader for the service account of the pod we run in."""
    contexts: dict[tuple[Any, ...], ssl.SSLContext] = {}

    async def load() -> Access:
        try:
            account = serviceaccount.read(os.environ)
        except (ValueError, OSError) as error:
            raise ConfigError(
                f"no kubeconfig is named (--kubeconfig, KUBECONFIG), and there is no pod's service account: {error}"
            ) from error
        return Access(
            server=account.server,
            authorization=f"Bearer {account.token}",
            tls=_tls(_Files(str(account.authority)), contexts),
            renew_at=time.monotonic() + _FILE_PERIOD,
        )

    return load


def _require_file(path: Path) -> None:
    if not any(Path(part).expanduser().is_file() for part in str(path).split(os.pathsep) if part):
        raise ConfigError(f"kubeconfig {path}: no such file")


def _require_credential(path: Path, loader: Any) -> None:
    """What the package drops silently must be an error: a failing exec plugin, and an identity to act as."""
    user = getattr(loader, "_user", None)
    for name in ("as", "as-uid", "as-groups", "as-user-extra"):
        if user is not None and name in user:
            raise ConfigError(f"kubeconfig {path}: users.user.{name}: impersonation is not supported")
    if user is None or "exec" not in user:
        return
    if not getattr(loader, "token", None) and not getattr(loader, "cert_file", None):
        command = user["exec"].safe_get("command")
        raise ConfigError(f"kubeconfig {path}: the exec plugin {command!r} gave no token and no client certificate")


def _renew_at(loader: Any) -> float | None:
    """When to load again: before a plugin's credential ends, and every minute for a token file."""
    expiry = getattr(loader, "exec_plugin_expiry", None)
    if expiry is not None:
        return time.monotonic() + max(_FORCE_PERIOD, float(expiry.timestamp()) - time.time() - _EXPIRY_MARGIN)
    user = getattr(loader, "_user", None)
    if loader.provider is not None or (user is not None and "tokenFile" in user):
        return time.monotonic() + _FILE_PERIOD
    return None


def _access(configuration: Any, contexts: dict[tuple[Any, ...], ssl.SSLContext], renew_at: float | None) -> Access:
    token = configuration.api_key.get("BearerToken")
    files = _Files(
        configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file, bool(configuration.verify_ssl)
    )
    server = str(configuration.host).rstrip("/")
    if not server.startswith(("http://", "https://")):
        raise ConfigError(f"cluster.server: expected an http:// or https:// URL, got {server!r}")
    return Access(
        server=server,
        authorization=token.strip() if token else None,  # token files tend to end in a newline
        tls=_tls(files, contexts) if server.startswith("https://") else None,
        server_name=getattr(configuration, "tls_server_name", None) or None,
        proxy=configuration.proxy or None,
        renew_at=renew_at,
    )


def _plain_access(plain: plainconfig.Plain, contexts: dict[tuple[Any, ...], ssl.SSLContext]) -> Access:
    tls = None
    if plain.server.startswith("https://"):
        key = ("plain", plain.authority)
        try:
            tls = contexts.get(key) or ssl.create_default_context(cadata=plain.authority)
        except ssl.SSLError as error:
            raise ConfigError(f"certificates of the cluster connection: {error}") from error
        contexts.clear()
        contexts[key] = tls
    return Access(server=plain.server, authorization=f"Bearer {plain.token}", tls=tls)


@dataclass(frozen=True)
class _Files:
    """What a TLS context is made of; paths."""

    authority: str | None
    certificate: str | None = None
    key: str | None = None
    verify: bool = True


def _tls(files: _Files, contexts: dict[tuple[Any, ...], ssl.SSLContext]) -> ssl.SSLContext:
    """A context for these files; the same one as before while their content is the same, to keep connections."""
    try:
        contents = tuple(
            Path(file).read_bytes() if file else None for file in (files.authority, files.certificate, files.key)
        )
        key = (*contents, files.verify)
        if key not in contexts:
            context = ssl.create_default_context(cafile=files.authority)
            if files.certificate:
                context.load_cert_chain(files.certificate, keyfile=files.key)
            if not files.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            contexts.clear()
            contexts[key] = context
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"certificates of the cluster connection: {error}") from error
    return contexts[key]
