"""SandboxTemplates ``<set>-<hash>``: made once per revision, kept while anybody refers to them.

They carry the label ``sandbox-pool`` and no owner reference: a claimed sandbox may outlive its set, and resuming it
needs the template. So nobody but this module deletes them: beyond the newest ten of a living set, and all of a set that
is gone, as soon as no sandbox refers to them.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from appliance.api import kinds, labels
from appliance.api.structs import SandboxSet, SandboxTemplate
from appliance.controller import indexes
from appliance.controller.revision import Revision, TemplateProblem, make_revision
from appliance.controller.world import Key, World
from appliance.kube import errors

log = logging.getLogger(__name__)

HISTORY = 10
"""Revisions kept for a living set, the current one included."""
_SALTS = 4


class RevisionKeeper:
    """Remembers each set's revision, so that an unchanged set costs neither hashing nor a request."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[Key, tuple[str, int, str, Revision]] = {}

    async def ensure(self, owner: SandboxSet) -> Revision:
        """The current revision, its SandboxTemplate existing. Raises TemplateProblem, KubeError."""
        referenced = self._referenced(owner)
        version = referenced.meta.resource_version if referenced is not None else ""
        known = self._known.get(owner.key)
        unchanged = known is not None and known[:3] == (owner.uid, owner.meta.generation, version)
        if known and unchanged and self._world.templates.get(owner.namespace, known[3].template) is not None:
            return known[3]
        for salt in range(_SALTS):
            revision = make_revision(owner, referenced, salt)
            if await self._exists(owner, revision):
                self._known[owner.key] = (owner.uid, owner.meta.generation, version, revision)
                return revision
        raise TemplateProblem(f"SandboxTemplate {revision.template}: the name is taken by a different template")

    def forget(self, key: Key) -> None:
        """The set is gone."""
        self._known.pop(key, None)

    def _referenced(self, owner: SandboxSet) -> SandboxTemplate | None:
        ref = owner.spec.template_ref
        return self._world.templates.get(owner.namespace, ref.name) if ref is not None else None

    async def _exists(self, owner: SandboxSet, revision: Revision) -> bool:
        """Make the SandboxTemplate unless it is there; False when something else has its name."""
        found = self._world.templates.get(owner.namespace, revision.template)
        if found is None:
            try:
                found = await self._world.cluster.create(kinds.SANDBOXTEMPLATE, owner.namespace, _body(owner, revision))
            except errors.AlreadyExists:
                found = await self._world.cluster.get(kinds.SANDBOXTEMPLATE, owner.namespace, revision.template)
            self._world.templates.observe(found)
        return _same(found, revision)

    async def collect(self, key: Key) -> None:
        """Delete revisions of that set that are superfluous and unused. Raises KubeError."""
        world = self._world
        kept = HISTORY if world.sets.get(*key) is not None else 0
        revisions = world.templates.by_index(indexes.REVISIONS, f"{key[0]}/{key[1]}")
        if len(revisions) <= kept:
            return
        known = self._known.get(key)
        current = known[3].template if known is not None and kept else ""
        others = sorted((item for item in revisions if item.name != current), key=_age, reverse=True)
        for template in others[max(0, kept - 1) :]:
            if template.meta.deletion_timestamp:
                continue
            if world.sandboxes.by_index(indexes.TEMPLATE_USERS, f"{key[0]}/{template.name}"):
                continue
            try:
                await world.cluster.delete(kinds.SANDBOXTEMPLATE, key[0], template.name, uid=template.uid)
            except (errors.NotFound, errors.Conflict):
                continue
            log.info("removed the unused revision %s/%s", key[0], template.name)


def _age(template: SandboxTemplate) -> tuple[str, int]:
    """Order of creation; timestamps have whole seconds, and revisions are never modified, so versions decide."""
    version = template.meta.resource_version
    return template.meta.creation_timestamp or "", int(version) if version.isdecimal() else 0


def _body(owner: SandboxSet, revision: Revision) -> dict[str, Any]:
    own = {labels.POOL: owner.name, labels.TEMPLATE_HASH: revision.hash}
    return {"metadata": {"name": revision.template, "namespace": owner.namespace, "labels": own}, "spec": revision.spec}


def _same(found: SandboxTemplate, revision: Revision) -> bool:
    """Whether the stored template is that revision; only the part that makes pods is compared.

    A template with our hash label is ours even if the API server normalised it when it was written.
    """
    if found.meta.labels.get(labels.TEMPLATE_HASH) == revision.hash and labels.POOL in found.meta.labels:
        return True
    return bool(msgspec.to_builtins(found.spec.template) == revision.spec.get("template"))
