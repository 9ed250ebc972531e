"""The cluster as every role sees it: typed reads and writes, guarded by versions, over raw bytes.

Objects come back as the kind's struct (or as dicts with ``type=dict``); they go out as plain mappings. Writes never
retry on their own except where the server says it did nothing (429 with a delay, 401): after ``Unreachable`` or
``RequestTimeout`` the caller alone knows whether doing it twice is harmless.
"""

# ruff: noqa: A002 - `type` is the word of the seam

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar, overload

from appliance.api.kinds import POD, Kind
from appliance.api.structs import Object
from appliance.config import KubeSettings
from appliance.kube import codec, credentials, errors, watching
from appliance.kube.codec import Event
from appliance.kube.metrics import KubeMetrics
from appliance.kube.transport import Transport

T = TypeVar("T", bound=Object)
R = TypeVar("R")

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_PLAIN = {"fieldValidation": "Ignore"}
"""Of writes whose fields are this program's own: by default the server parses them again, strictly, to warn of fields
that it does not know. Nobody would read the warning, and it is a tenth of the write."""


@dataclass(frozen=True)
class Listing(Generic[R]):
    """A list of one moment."""

    items: list[R]
    resource_version: str
    """Where a watch continues."""
    complete: bool = True
    """False when ``limit`` cut it short."""


class Cluster:
    """A connection to one cluster; make it with ``connect``, inside the event loop that uses it, and ``close`` it."""

    def __init__(self, settings: KubeSettings, transport: Transport, metrics: KubeMetrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self._transport = transport

    @classmethod
    async def connect(cls, settings: KubeSettings) -> Cluster:
        """Load the credentials and open a session; the server itself is not asked yet.

        Raises ConfigError when the kubeconfig or the service account cannot be used.
        """
        path = settings.kubeconfig
        load = credentials.from_kubeconfig(path) if path is not None else credentials.in_cluster()
        access = credentials.Credentials(load, timeout=settings.request_timeout)
        await access.current()
        metrics = KubeMetrics()
        transport = Transport(access, user_agent=settings.user_agent, timeout=settings.request_timeout, metrics=metrics)
        return cls(settings, transport, metrics)

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; requests and watches in flight fail with Unreachable."""
        await self._transport.close()

    async def version(self) -> tuple[dict[str, Any], datetime | None]:
        """What the API server says of itself (``/version``), and its clock, to the second (None: it tells none)."""
        body, headers = await self._transport.look("/version")
        said = headers.get("Date")
        return codec.decode_object(body, dict[str, Any]), parsedate_to_datetime(said) if said else None

    # Reads --------------------------------------------------------------------------------------------------------
    @overload
    async def get(self, kind: Kind[T], namespace: str | None, name: str) -> T: ...
    @overload
    async def get(self, kind: Kind[Any], namespace: str | None, name: str, *, type: type[R]) -> R: ...
    async def get(self, kind: Kind[Any], namespace: str | None, name: str, *, type: Any = None) -> Any:
        """One object, fresh from the server. Raises NotFound."""
        body = await self._transport.request("get", "GET", kind.path(namespace, name))
        return codec.decode_object(body, type or kind.struct)

    @overload
    async def list(
        self,
        kind: Kind[T],
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int | None = None,
    ) -> Listing[T]: ...
    @overload
    async def list(
        self,
        kind: Kind[Any],
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int | None = None,
        type: type[R],
    ) -> Listing[R]: ...
    async def list(
        self,
        kind: Kind[Any],
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int | None = None,
        type: Any = None,
    ) -> Listing[Any]:
        """All objects of one consistent moment, fetched in pages; with ``limit`` only the first so many.

        Objects that do not fit their struct are left out with a warning. ``namespace`` None: all namespaces.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit: expected at least 1, got {limit}")
        source = self.source(kind, namespace, type, label_selector, field_selector)
        try:
            return await _collect(source, limit)
        except errors.Gone:  # the snapshot expired between two pages: once more from the start
            return await _collect(source, limit)

    @overload
    def watch(
        self,
        kind: Kind[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncGenerator[Event[T], None]: ...
    @overload
    def watch(
        self,
        kind: Kind[Any],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        type: type[R],
    ) -> AsyncGenerator[Event[R], None]: ...
    async def watch(
        self,
        kind: Kind[Any],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        type: Any = None,
    ) -> AsyncGenerator[Event[Any], None]:
        """Every change after ``resource_version``, for ever, across broken connections.

        Raises Gone when the position expired (list again) and other ApiErrors as they come. Close the iterator
        (``contextlib.aclosing``) to end the request.
        """
        source = self.source(kind, namespace, type, label_selector, field_selector)
        async with aclosing(watching.resume(source, resource_version)) as events:
            async for event in events:
                if event.type != "BOOKMARK":
                    yield event

    def source(
        self,
        kind: Kind[Any],
        namespace: str | None = None,
        type: Any = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> watching.Source[Any]:
        """What ``appliance.kube.watching`` lists and watches; for the informer."""
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        present = {name: value for name, value in selectors.items() if value}
        return watching.Source(
            self._transport, self.settings, self.metrics, kind, type or kind.struct, namespace, present
        )

    # Writes -------------------------------------------------------------------------------------------------------
    async def pod_log(self, namespace: str, name: str, *, container: str, tail: int, limit: int) -> str:
        """The last ``tail`` lines, at most ``limit`` bytes, of a container's output, each after its RFC 3339 instant.

        Bytes that are not UTF-8 are replaced. Raises NotFound, and ApiError 400 for a container that never ran.
        """
        params = {"container": container, "tailLines": str(tail), "limitBytes": str(limit), "timestamps": "true"}
        answer = await self._transport.request("log", "GET", POD.path(namespace, name, "log"), params=params)
        return answer[:limit].decode(errors="replace")

    @overload
    async def create(self, kind: Kind[T], namespace: str | None, body: Mapping[str, Any]) -> T: ...
    @overload
    async def create(self, kind: Kind[Any], namespace: str | None, body: Mapping[str, Any], *, type: type[R]) -> R: ...
    async def create(self, kind: Kind[Any], namespace: str | None, body: Mapping[str, Any], *, type: Any = None) -> Any:
        """Create; ``apiVersion`` and ``kind`` are filled in. Raises AlreadyExists, Invalid, Forbidden, NotFound."""
        answer = await self._transport.request(
            "create", "POST", kind.path(namespace), params=_PLAIN, body=codec.encode(_typed(kind, body))
        )
        return codec.decode_object(answer, type or kind.struct)

    @overload
    async def patch(
        self,
        kind: Kind[T],
        namespace: str | None,
        name: str,
        patch: Mapping[str, Any],
        *,
        resource_version: str | None = None,
        subresource: str | None = None,
    ) -> T: ...
    @overload
    async def patch(
        self,
        kind: Kind[Any],
        namespace: str | None,
        name: str,
        patch: Mapping[str, Any],
        *,
        resource_version: str | None = None,
        subresource: str | None = None,
        type: type[R],
    ) -> R: ...
    async def patch(
        self,
        kind: Kind[Any],
        namespace: str | None,
        name: str,
        patch: Mapping[str, Any],
        *,
        resource_version: str | None = None,
        subresource: str | None = None,
        type: Any = None,
    ) -> Any:
        """JSON merge patch (RFC 7386: null removes, lists are replaced).

        With ``resource_version`` it is a guarded write: Conflict unless the object still has that version. An empty
        string is refused with ValueError, since the server would read it as no guard at all.
        """
        if resource_version is not None:
            if not resource_version:
                raise ValueError("resource_version: expected the version the write depends on, got an empty string")
            patch = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": resource_version}}
        path = kind.path(namespace, name, subresource)
        answer = await self._transport.request(
            "patch", "PATCH", path, params=_PLAIN, body=codec.encode(patch), content_type=MERGE_PATCH
        )
        return codec.decode_object(answer, type or kind.struct)

    @overload
    async def replace(
        self,
        kind: Kind[T],
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        subresource: str | None = None,
    ) -> T: ...
    @overload
    async def replace(
        self,
        kind: Kind[Any],
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        subresource: str | None = None,
        type: type[R],
    ) -> R: ...
    async def replace(
        self,
        kind: Kind[Any],
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        subresource: str | None = None,
        type: Any = None,
    ) -> Any:
        """Write the whole object; guarded when its metadata carries a ``resourceVersion`` (Conflict)."""
        path = kind.path(namespace, name, subresource)
        answer = await self._transport.request("update", "PUT", path, body=codec.encode(_typed(kind, body)))
        return codec.decode_object(answer, type or kind.struct)

    @overload
    async def apply(
        self,
        kind: Kind[T],
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        manager: str,
        force: bool,
        dry_run: bool = False,
    ) -> T: ...
    @overload
    async def apply(
        self,
        kind: Kind[Any],
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        manager: str,
        force: bool,
        dry_run: bool = False,
        type: type[R],
    ) -> R: ...
    async def apply(
        self,
        kind: Kind[Any],
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        manager: str,
        force: bool,
        dry_run: bool = False,
        type: Any = None,
    ) -> Any:
        """Server-side apply as field manager ``manager``: create or update so that it contains ``body``.

        With ``dry_run`` the answer is what the object would be, and nothing is written.
        """
        params = {
            "fieldManager": manager,
            "force": "true" if force else "false",
            **({"dryRun": "All"} if dry_run else {}),
        }
        path = kind.path(namespace, name)
        answer = await self._transport.request(
            "apply", "PATCH", path, params=params, body=codec.encode(_typed(kind, body)), content_type=APPLY_PATCH
        )
        return codec.decode_object(answer, type or kind.struct)

    async def delete(
        self,
        kind: Kind[Any],
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        propagation: str | None = None,
    ) -> None:
        """Ask for deletion; the object may stay a while (finalizers, grace).

        ``uid`` and ``resource_version`` are preconditions (Conflict when they do not hold); ``propagation`` is
        Background, Foreground or Orphan. Raises NotFound when it is already gone.
        """
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        options = {
            "gracePeriodSeconds": grace_seconds,
            "propagationPolicy": propagation,
            "preconditions": {name: value for name, value in preconditions.items() if value is not None} or None,
        }
        present = {name: value for name, value in options.items() if value is not None}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **present}
        await self._transport.request("delete", "DELETE", kind.path(namespace, name), body=codec.encode(body))


def _typed(kind: Kind[Any], body: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": kind.api_version, "kind": kind.kind, **body}


async def _collect(source: watching.Source[R], limit: int | None) -> Listing[R]:
    items: list[R] = []
    async with aclosing(watching.pages(source, limit)) as listing:
        async for page in listing:
            items += page.items
            if limit is not None and len(items) >= limit:
                complete = not page.token and len(items) == limit
                return Listing(items[:limit], page.resource_version, complete)
            version = page.resource_version
    return Listing(items, version)
