"""A client's metadata: what it means, where it is kept, and which keys are orders to us.

The annotation ``E2B_METADATA`` holds the JSON object exactly as given and is the truth for the API. Kubernetes tools
see copies: keys that are qualified names become annotations, ``label:K`` becomes the label K. Keys of our own domain
are *extensions*: orders like ``e2b.agents.kruise.io/never-timeout``, taken out, obeyed or refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec

from appliance.api import labels, times
from appliance.api.imagenames import is_reference
from appliance.api.quantities import quantity
from appliance.claims.updating import Update
from appliance.manager.errors import invalid, unsupported

MAX_BYTES = 64 * 1024
"""Of one sandbox's metadata; it is stored up to twice and Kubernetes allows 256 KiB of annotations in all."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_RESERVED = ("kruise.io", "kubernetes.io", "k8s.io")
_LABEL = "label:"


@dataclass(frozen=True)
class Extensions:
    """Orders given through metadata keys of our domain."""

    claim_timeout: float | None = None
    """Seconds for the whole claim."""
    ready_timeout: float | None = None
    """Seconds a sandbox made or updated for this claim gets to become ready."""
    create_on_no_stock: bool = True
    skip_init: bool = False
    never_timeout: bool = False
    retention: timedelta | None = None
    """How long paused sandboxes are kept; None: for ever."""
    return_ip: bool = False
    image: str = ""
    cpu_request: str = ""
    cpu_limit: str = ""
    memory_request: str = ""
    memory_limit: str = ""

    @property
    def update(self) -> Update | None:
        """The in-place update these ask for."""
        requests = {"cpu": self.cpu_request, "memory": self.memory_request}
        limits = {"cpu": self.cpu_limit, "memory": self.memory_limit}
        given = [{name: value for name, value in amounts.items() if value} for amounts in (requests, limits)]
        return Update(image=self.image, requests=given[0], limits=given[1]) if self.image or any(given) else None


@dataclass(frozen=True)
class Metadata:
    """A client's metadata, sorted out."""

    user: Mapping[str, str]
    """What GET returns, unchanged."""
    annotations: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    extensions: Extensions = field(default_factory=Extensions)


def sort_out(given: Mapping[str, str]) -> Metadata:
    """Split metadata into its uses.

    Raises:
        Fault: 400 for an extension that is unknown, unsupported or malformed, a reserved key, a bad label, or too much.
    """
    orders = {key.removeprefix(labels.E2B_PREFIX): value for key, value in given.items() if _is_order(key)}
    user = {key: value for key, value in given.items() if not _is_order(key)}
    text = msgspec.json.encode(user)
    if len(text) > MAX_BYTES:
        raise invalid("metadata", f"expected at most {MAX_BYTES} bytes as JSON, got {len(text)}")
    result = Metadata(user=user, extensions=_extensions(orders))
    for key, value in user.items():
        if key.startswith(_LABEL):
            result.labels[_label_key(key)] = _label_value(key, value)
        elif key.startswith((f"{labels.GROUP}/", f"appliance.{labels.GROUP}/")):
            raise invalid(f"metadata.{key}", f"keys under {labels.GROUP}/ are reserved")
        elif is_qualified(key) and not is_reserved(key):
            result.annotations[key] = value
    if user:
        result.annotations[labels.E2B_METADATA] = text.decode()
    return result


def returned(annotations: Mapping[str, str]) -> dict[str, str]:
    """A sandbox's metadata as the API returns it, from its annotations; empty when there is none."""
    text = annotations.get(labels.E2B_METADATA)
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError:
        return {}


def is_qualified(key: str) -> bool:
    """Whether Kubernetes would take it as the key of a label or annotation."""
    domain, slash, name = key.rpartition("/")
    return _NAME.fullmatch(name) is not None and (not slash or _DOMAIN.fullmatch(domain) is not None)


def is_reserved(key: str) -> bool:
    """Whether it belongs to Kubernetes or to us: never written on a client's behalf."""
    domain = key.rpartition("/")[0]
    owned = any(domain == end or domain.endswith("." + end) for end in _RESERVED)
    return owned or key == labels.POD_TEMPLATE_HASH


def _is_order(key: str) -> bool:
    return key.startswith(labels.E2B_PREFIX)


def _label_key(key: str) -> str:
    name = key.removeprefix(_LABEL)
    if not is_qualified(name) or is_reserved(name):
        raise invalid(f"metadata.{key}", "expected a Kubernetes label key outside kruise.io and kubernetes.io")
    return name


def _label_value(key: str, value: str) -> str:
    if _LABEL_VALUE.fullmatch(value) is None:
        raise invalid(
            f"metadata.{key}", "expected a label value: at most 63 of [A-Za-z0-9_.-], alphanumeric at the ends"
        )
    return value


def _extensions(orders: Mapping[str, str]) -> Extensions:
    given: dict[str, Any] = {}
    for name, value in orders.items():
        if name not in _READERS:
            raise unsupported(f"metadata key {labels.E2B_PREFIX}{name}")
        field_name, read = _READERS[name]
        given[field_name] = read(f"metadata.{labels.E2B_PREFIX}{name}", value)
    return Extensions(**given)


def _flag(key: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise invalid(key, f'expected "true" or "false", got {value!r}')
    return value == "true"


def _seconds(key: str, value: str) -> float:
    if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= 3600:
        raise invalid(key, f"expected whole seconds from 1 to 3600, got {value!r}")
    return float(value)


def parse_retention(key: str, value: str) -> timedelta | None:
    """``forever`` (None) or a Go duration. Raises Fault 400 naming ``key``."""
    if value == "forever":
        return None
    try:
        retention = times.parse_duration(value)
    except ValueError as error:
        raise invalid(key, f"expected forever or a duration such as 24h ({error})") from error
    if not timedelta(0) < retention <= timedelta(days=36500):
        raise invalid(key, "expected a duration greater than 0 and at most 100 years")
    return retention


def _image(key: str, value: str) -> str:
    if not is_reference(value):
        raise invalid(key, f"expected the name of an image such as python:3.11-slim, got {value[:200]!r}")
    return value


def _amount(key: str, value: str) -> str:
    try:
        number = quantity(value)
    except ValueError as error:
        raise invalid(key, str(error)) from None
    if number <= 0:
        raise invalid(key, f"expected more than 0, got {value!r}")
    return value


_READERS: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "claim-timeout-seconds": ("claim_timeout", _seconds),
    "cpu-limit": ("cpu_limit", _amount),
    "cpu-request": ("cpu_request", _amount),
    "create-on-no-stock": ("create_on_no_stock", _flag),
    "image": ("image", _image),
    "memory-limit": ("memory_limit", _amount),
    "memory-request": ("memory_request", _amount),
    "never-timeout": ("never_timeout", _flag),
    "reserve-paused-sandbox-duration": ("retention", parse_retention),
    "return-sandbox-ip": ("return_ip", _flag),
    "skip-init-runtime": ("skip_init", _flag),
    "wait-ready-timeout-seconds": ("ready_timeout", _seconds),
}
"""Extension key → field of ``Extensions`` and how its value is read."""


def retention_annotation(retention: timedelta | None) -> dict[str, str]:
    """The annotation that tells the controller how long to keep the paused sandbox; nothing when for ever."""
    return {} if retention is None else {labels.RESERVE_PAUSED: times.format_duration(retention)}
