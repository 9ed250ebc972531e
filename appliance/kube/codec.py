"""Bytes of the API to structs and back, and what happens to objects that do not fit.

One decoder per type is built once and kept. A whole page is decoded in one call. When that fails because one object
does not fit its struct (somebody's hand-made object, a newer schema), the page is decoded again object by object and
only the misfits are skipped, with a warning: one bad object must never blind a controller to all the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

import msgspec

from appliance.api.structs import Object
from appliance.kube import errors

T = TypeVar("T")
log = logging.getLogger(__name__)


class Event(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """One line of a watch: ``type`` is ADDED, MODIFIED, DELETED or BOOKMARK (only the version of ``object`` counts)."""

    type: str
    object: T


class _ListMeta(msgspec.Struct, rename="camel", gc=False):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct, Generic[T], gc=False):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[T] | None = None


class Page(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """Part of a list: its objects, the list's version, and the token of the next page (empty: that was all)."""

    items: list[T]
    resource_version: str
    token: str
    skipped: int = 0


encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


@lru_cache(maxsize=256)
def _decoder(form: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    return msgspec.json.Decoder(form).decode


@lru_cache(maxsize=64)
def _page_form(of: Any) -> Any:
    return _Page[of]


@lru_cache(maxsize=64)
def _event_form(of: Any) -> Any:
    return Event[of]


def decode_object(body: bytes, of: type[T]) -> T:
    """One object; raises Unreachable when the answer is not such an object (it is as good as none)."""
    try:
        return cast(T, _decoder(cast(Any, of))(body))
    except msgspec.DecodeError as error:
        raise errors.Unreachable(f"the server's answer is not a {of.__name__}: {error}") from error


def decode_page(body: bytes, of: type[T]) -> Page[T]:
    """One page of a list; raises Unreachable when the answer is no list at all."""
    try:
        page = _decoder(_page_form(cast(Any, of)))(body)
    except msgspec.ValidationError:
        return _decode_page_leniently(body, of)
    except msgspec.DecodeError as error:
        raise errors.Unreachable(f"the server's answer is not a list: {error}") from error
    return Page(page.items or [], page.metadata.resource_version, page.metadata.continue_)


def _decode_page_leniently(body: bytes, of: type[T]) -> Page[T]:
    try:
        page = _decoder(_page_form(msgspec.Raw))(body)
    except msgspec.DecodeError as error:
        raise errors.Unreachable(f"the server's answer is not a list: {error}") from error
    raws = page.items or []
    items = [item for raw in raws if (item := _decode_or_skip(raw, of)) is not None]
    return Page(items, page.metadata.resource_version, page.metadata.continue_, len(raws) - len(items))


def decode_event(line: bytes, of: type[T]) -> Event[T] | None:
    """One line of a watch, or None for an object that does not fit.

    Raises the ApiError of an ERROR event (Gone when the watch position expired), and Unreachable for a line that is
    not a watch event.
    """
    try:
        event = cast(Event[T], _decoder(_event_form(cast(Any, of)))(line))
    except msgspec.ValidationError:
        return _decode_event_leniently(line, of)
    except msgspec.DecodeError as error:
        raise errors.Unreachable(f"the watch sent a line that is not JSON: {error}") from error
    if event.type == "ERROR":
        return _decode_event_leniently(line, of)
    return event


def _decode_event_leniently(line: bytes, of: type[T]) -> Event[T] | None:
    """For what the fast path refused: errors, bookmarks (typed nulls in ``spec`` are usual there) and misfits."""
    try:
        event = _decoder(_event_form(msgspec.Raw))(line)
    except msgspec.DecodeError as error:
        raise errors.Unreachable(f"the watch sent a line that is no event: {error}") from error
    if event.type == "ERROR":
        raise errors.from_event(event.object)
    if event.type == "BOOKMARK":
        bare = decode_object(event.object, Object)
        stand_in = {"metadata": {"resourceVersion": bare.meta.resource_version}}
        return Event("BOOKMARK", msgspec.convert(stand_in, of))
    item = _decode_or_skip(event.object, of)
    return None if item is None else Event(event.type, item)


def _decode_or_skip(raw: msgspec.Raw, of: type[T]) -> T | None:
    try:
        return cast(T, _decoder(cast(Any, of))(raw))
    except msgspec.DecodeError as error:
        log.warning("skipped %s: %s", _identify(raw), error)
        return None


def _identify(raw: msgspec.Raw) -> str:
    try:
        bare = _decoder(Object)(raw)
    except msgspec.DecodeError:
        return "an object without readable metadata"
    return f"object {bare.namespace}/{bare.name} (resourceVersion {bare.meta.resource_version})"


def version_of(item: Any) -> str:
    """``metadata.resourceVersion`` of a struct or dict; empty when it has none."""
    if isinstance(item, Object):
        return item.meta.resource_version
    return str((item.get("metadata") or {}).get("resourceVersion", "")) if isinstance(item, dict) else ""


def revision(resource_version: str) -> int:
    """A resourceVersion as a number to compare; 0 for one that is absent or no decimal number.

    Kubernetes promises since 1.35 that versions of one resource are decimal and ordered; etcd's always were.
    """
    return int(resource_version) if resource_version.isdecimal() else 0
