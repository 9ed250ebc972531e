"""SandboxSet: a pool of warm sandboxes, refilled as they are claimed."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from appliance.api.meta import (
    ONE_TEMPLATE,
    Claims,
    Conditions,
    Int32,
    Int64,
    IntOrPercent,
    Model,
    ObjectMeta,
    PauseStrategy,
    PersistentContents,
    Runtimes,
    Schemaless,
    TemplateRef,
)


class ScaleStrategy(Model):
    """How fast the pool grows."""

    max_unavailable: IntOrPercent | None = None
    """Sandboxes that may be unavailable at once while the pool grows: a number, or a percentage of replicas (rounded
    up). 0 stops growth; empty: no limit."""


class UpdateStrategy(Model):
    """How members of an old revision are replaced."""

    max_unavailable: IntOrPercent | None = "20%"
    """Sandboxes that may be unavailable at once during a rolling update: a number, or a percentage of replicas."""


class SandboxSetSpec(Model):
    """Desired state of a pool."""

    model_config = ConfigDict(json_schema_extra=ONE_TEMPLATE)

    replicas: Int32 = Field(ge=0, le=100_000)
    """Number of unclaimed sandboxes to keep, being made or available."""
    template: Schemaless | None = None
    """The pod template (as in core/v1 PodTemplateSpec); instead of templateRef."""
    template_ref: TemplateRef | None = None
    """The SandboxTemplate the members are made from; instead of template."""
    volume_claim_templates: Claims | None = None
    """PersistentVolumeClaims (as in core/v1) made for every member."""
    runtimes: Runtimes | None = None
    """Runtime components, copied to every member."""
    pause_strategy: PauseStrategy | None = None
    """How members are paused, copied to every member."""
    persistent_contents: PersistentContents | None = None
    """What survives a pause of a member, copied to every member."""
    scale_strategy: ScaleStrategy | None = None
    """How fast the pool grows."""
    update_strategy: UpdateStrategy | None = None
    """How members of an old revision are replaced."""


class SandboxSetStatus(Model):
    """Observed state of a pool."""

    observed_generation: Int64 | None = None
    """Generation that this status was made from."""
    replicas: Int32 = Field(default=0, ge=0)
    """Unclaimed sandboxes, being made or available."""
    available_replicas: Int32 = Field(default=0, ge=0)
    """Sandboxes that can be claimed now."""
    updated_replicas: Int32 = Field(default=0, ge=0)
    """Unclaimed sandboxes of the newest revision."""
    updated_available_replicas: Int32 = Field(default=0, ge=0)
    """Sandboxes of the newest revision that can be claimed now."""
    update_revision: str | None = None
    """Hash of the newest template."""
    current_revision: str | None = None
    """Name of the SandboxTemplate that holds it."""
    conditions: Conditions | None = None
    """What stands in the way of the desired state, if anything."""
    selector: str | None = None
    """Label selector of the members, for the scale subresource."""


class SandboxSet(Model):
    """A pool of warm sandboxes, all made from one template and refilled as they are claimed."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: SandboxSetSpec
    """What the pool shall be."""
    status: SandboxSetStatus | None = None
    """What the pool is."""
