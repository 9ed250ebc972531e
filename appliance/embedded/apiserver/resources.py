"""What the server serves: one :class:`Resource` per group, version and plural, and the registry that finds them.

Core kinds are a fixed table (``builtin.py``); custom kinds come and go with their CustomResourceDefinitions. A custom
resource has exactly one served version, so a stored object never needs conversion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appliance.embedded.apiserver.schema.node import Node

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, eq=False)
class ScaleSpec:
    """JSON paths (as key tuples) of the scale subresource."""

    spec_replicas: tuple[str, ...]
    status_replicas: tuple[str, ...]
    selector: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """One served resource. ``key`` names it in the store: ``plural`` or ``plural.group``."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    singular: str = ""
    list_kind: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = frozenset()
    schema: Node | None = None
    """Compiled schema; None: nothing is checked."""
    openapi: Mapping[str, Any] | None = None
    """Schema as declared by a CRD, for OpenAPI documents."""
    scale: ScaleSpec | None = None
    columns: tuple[Mapping[str, Any], ...] = ()
    """``additionalPrinterColumns`` of a CRD."""
    custom: bool = False
    verbs: tuple[str, ...] = VERBS
    selectable: tuple[str, ...] = ()
    """Extra field-selector paths (dotted, without leading dot)."""
    key: str = field(init=False)
    api_version: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.plural}.{self.group}" if self.group else self.plural)
        object.__setattr__(self, "api_version", f"{self.group}/{self.version}" if self.group else self.version)
        if not self.list_kind:
            object.__setattr__(self, "list_kind", self.kind + "List")
        if not self.singular:
            object.__setattr__(self, "singular", self.kind.lower())

    @property
    def qualified(self) -> str:
        """``plural.group``, the name used in messages."""
        return self.key


class Registry:
    """All served resources, by (group, version, plural) and by store key. ``generation`` rises with every change."""

    def __init__(self, builtin: Iterable[Resource]) -> None:
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._by_key: dict[str, Resource] = {}
        self.generation = 0
        for resource in builtin:
            self.put(resource)

    def put(self, resource: Resource) -> None:
        """Serves ``resource``, replacing what had its store key."""
        self.drop(resource.key)
        self._by_path[resource.group, resource.version, resource.plural] = resource
        self._by_key[resource.key] = resource
        self.generation += 1

    def drop(self, key: str) -> None:
        """Stops serving the resource with store key ``key``; unknown keys are ignored."""
        old = self._by_key.pop(key, None)
        if old is not None:
            del self._by_path[old.group, old.version, old.plural]
            self.generation += 1

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource served at that path, or None."""
        return self._by_path.get((group, version, plural))

    def by_key(self, key: str) -> Resource | None:
        """The resource with that store key, or None."""
        return self._by_key.get(key)

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The resource of an object's apiVersion and kind, or None."""
        for resource in self._by_key.values():
            if resource.kind == kind and resource.api_version == api_version:
                return resource
        return None

    def all(self) -> list[Resource]:
        """Every served resource, in order of registration."""
        return list(self._by_key.values())

    def groups(self) -> dict[str, list[str]]:
        """Group name to its served versions; the core group is ``""``."""
        found: dict[str, list[str]] = {}
        for resource in self._by_key.values():
            versions = found.setdefault(resource.group, [])
            if resource.version not in versions:
                versions.append(resource.version)
        return found
