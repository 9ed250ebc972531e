"""Templates: SandboxSets, seen through the E2B API. They are made in the cluster; here they are read, tagged, deleted.

A template is its team's alone, so none is ``public``: a team is a namespace, and other teams see nothing of it.

The template id is the set's name. Sets of the same name in several namespaces are one template to an admin key, which
claims from whichever has stock; any other key sees its own namespace only.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from appliance.api import labels, times
from appliance.api.structs import SandboxSet
from appliance.kube.informer import Informer
from appliance.manager.errors import Fault, invalid, template_not_found
from appliance.manager.keys.model import ApiKey
from appliance.manager.sizes import Sizer
from appliance.manager.spawns import Spawns
from appliance.manager.tags import DEFAULT_TAG, tags_of
from appliance.manager.template_tags import Tagged

ALIASES: Mapping[str, str] = {"base": "code-interpreter", "code-interpreter-v1": "code-interpreter"}
"""Names that SDKs use by themselves, and the template they mean unless one of that very name exists."""
DEFAULTS = frozenset({*ALIASES, *ALIASES.values()})
"""Templates that clients get when they name none."""

_GRAMMAR = re.compile(r"(?:(?P<namespace>[a-z0-9_.-]+)/)?(?P<name>[a-z0-9_.-]+)(?::(?P<tag>[a-z0-9_.-]+))?")
_BUILDS = uuid.UUID("b8f7a3de-53b0-5d2f-8e61-2d4c5b6f7a10")


class Templates:
    """Looks templates up for a key, and renders them."""

    def __init__(self, sets: Informer[SandboxSet], sizer: Sizer, spawns: Spawns) -> None:
        self._sets = sets
        self._sizer = sizer
        self._spawns = spawns

    def resolve(self, key: ApiKey, text: str, *, field: str = "templateID") -> tuple[str | None, str]:
        """Namespace (None: any) and name of the template that ``[namespace/]name[:tag]`` means.

        Raises:
            Fault: 400 for what is no template name (naming ``field``), 404 for an unknown template or tag, 403 for one
                that is named with the namespace of another team.
        """
        namespace, name, tag = _parse(text, field)
        found = self._named(key, namespace, name) or self._named(key, namespace, ALIASES.get(name, name))
        if not found and namespace is not None and self._sets.get(namespace, name) is not None:
            raise Fault(403, f"you don't have access to template '{text}'")
        if not found:
            raise template_not_found(text)
        found = [one for one in found if tag == DEFAULT_TAG or tag in tags_of(one)]
        if not found:
            raise Fault(404, f"tag '{tag}' does not exist for template '{name}'")
        own = [one for one in found if one.namespace == key.team]
        chosen = (own or found)[0]
        return (chosen.namespace if own or len(found) == 1 else None), chosen.name

    def canonical(self, key: ApiKey, name: str) -> str:
        """The template's own name for a name or alias; an unknown one is returned as it is."""
        return name if self._named(key, None, name) else ALIASES.get(name, name)

    def find(self, key: ApiKey, text: str, *, field: str = "templateID") -> SandboxSet:
        """The set behind a template id or alias; the same rules."""
        namespace, name = self.resolve(key, text, field=field)
        return self._named(key, namespace, name)[0]

    def visible(self, key: ApiKey) -> list[SandboxSet]:
        """The templates a key may use, by name."""
        found = [one for one in self._sets.items() if key.may_see(one.namespace) and not one.meta.deletion_timestamp]
        return sorted(found, key=lambda one: (one.name, one.namespace))

    def _named(self, key: ApiKey, namespace: str | None, name: str) -> list[SandboxSet]:
        return [one for one in self.visible(key) if one.name == name and namespace in (None, one.namespace)]

    def _aliases_of(self, pool: SandboxSet) -> list[str]:
        """The further names that mean this template, none of which another set of its team bears."""
        found = (one for one, meant in ALIASES.items() if meant == pool.name)
        return [one for one in found if self._sets.get(pool.namespace, one) is None]

    def render(self, pool: SandboxSet) -> dict[str, Any]:
        """``Template``."""
        sizes = self._sizer.of_set(pool)
        names = [pool.name, *self._aliases_of(pool)]
        since = _instant(pool.meta.creation_timestamp)
        created = times.format(since, micro=True)
        spawned = self._spawns.of(pool.namespace, pool.name, since)
        return {
            "templateID": pool.name,
            "buildID": build_id(pool),
            "cpuCount": sizes.cpu_count,
            "memoryMB": sizes.memory_mb,
            "diskSizeMB": sizes.disk_mb,
            "public": False,
            "aliases": names,
            "names": [f"{pool.namespace}/{name}" for name in names],
            "createdAt": created,
            "updatedAt": created,
            "createdBy": None,
            "lastSpawnedAt": times.format(spawned.last, micro=True) if spawned is not None else None,
            "spawnCount": spawned.count if spawned is not None else 0,
            "buildCount": 1,
            "envdVersion": labels.ENVD_VERSION,
            "buildStatus": "ready",
            "isDefault": pool.name in DEFAULTS,
        }

    def render_with_builds(self, pool: SandboxSet, skipped: int = 0) -> dict[str, Any]:
        """``TemplateWithBuilds`` from build number ``skipped`` on: the set's current revision is its one build."""
        view = self.render(pool)
        build = {
            "buildID": view["buildID"],
            "status": "ready",
            "createdAt": view["createdAt"],
            "updatedAt": view["updatedAt"],
            "finishedAt": view["updatedAt"],
            "cpuCount": view["cpuCount"],
            "memoryMB": view["memoryMB"],
            "diskSizeMB": view["diskSizeMB"],
            "envdVersion": view["envdVersion"],
        }
        return view | {"builds": [build][skipped:]}

    def tagged(self, pool: SandboxSet) -> Tagged:
        """Its build and its tags: the one that every template has, and those it was given."""
        created = _instant(pool.meta.creation_timestamp)
        given = {one: at or created for one, at in sorted(tags_of(pool).items())}
        return Tagged(build_id(pool), created, {DEFAULT_TAG: created, **given})

    def render_tags(self, pool: SandboxSet) -> list[dict[str, Any]]:
        """``TemplateTag[]``."""
        found = self.tagged(pool)
        stamps = {tag: times.format(at, micro=True) for tag, at in found.tags.items()}
        return [{"tag": tag, "buildID": found.build_id, "createdAt": at} for tag, at in stamps.items()]


def _parse(text: str, field: str) -> tuple[str | None, str, str]:
    match = _GRAMMAR.fullmatch(text.lower())
    if match is None:
        raise invalid(field, f"expected [namespace/]name[:tag], got {text[:80]!r}")
    return match["namespace"], match["name"], match["tag"] or DEFAULT_TAG


def alias_used(text: str) -> str | None:
    """The alias in a ``templateID``; None when it is the name of a template, or no name at all."""
    match = _GRAMMAR.fullmatch(text.lower())
    return match["name"] if match is not None and match["name"] in ALIASES else None


def build_id(pool: SandboxSet) -> str:
    """A UUID that changes with the set's revision, since E2B names builds so."""
    return str(uuid.uuid5(_BUILDS, f"{pool.uid}/{pool.status.update_revision}"))


def _instant(text: str | None) -> datetime:
    return times.parse_or_none(text) or times.parse("1970-01-01T00:00:00Z")
