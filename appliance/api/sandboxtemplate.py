"""SandboxTemplate: what sandboxes are made of; data only."""

from __future__ import annotations

from pydantic import Field

from appliance.api.meta import (
    Claims,
    Model,
    ObjectMeta,
    PauseStrategy,
    PersistentContents,
    Runtimes,
    Schemaless,
)


class SandboxTemplateSpec(Model):
    """Content of a template."""

    template: Schemaless | None = None
    """The pod template (as in core/v1 PodTemplateSpec)."""
    volume_claim_templates: Claims | None = None
    """PersistentVolumeClaims (as in core/v1) made for every sandbox."""
    persistent_contents: PersistentContents | None = None
    """What survives a pause: ip, memory, filesystem."""
    runtimes: Runtimes | None = None
    """Runtime components to be put into the pod."""
    pause_strategy: PauseStrategy | None = None
    """How sandboxes are paused."""


class SandboxTemplate(Model):
    """What sandboxes are made of: written by people, by SandboxSets for each of their revisions, and by snapshots."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: SandboxTemplateSpec
    """Content of the template."""
