"""SandboxUpdateOps: one change of many claimed sandboxes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from appliance.api.meta import (
    Atomic,
    Conditions,
    Int32,
    Int64,
    IntOrPercent,
    Lifecycle,
    Model,
    ObjectMeta,
    Schemaless,
    words,
)

StateName = Literal["Running", "Paused"]


class LabelRequirement(Model):
    """A requirement on one label."""

    key: str
    """Label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How its value is compared."""
    values: Annotated[list[str], Field(json_schema_extra=Atomic)] | None = None
    """Values, for In and NotIn."""


class LabelSelector(Model):
    """Chooses objects by their labels; all requirements must hold."""

    model_config = ConfigDict(json_schema_extra=words(map_type="atomic"))

    match_labels: dict[str, str] | None = None
    """Labels and their values."""
    match_expressions: Annotated[list[LabelRequirement], Field(json_schema_extra=Atomic)] | None = None
    """Requirements."""


class UpdateOpsStrategy(Model):
    """How the change is rolled out."""

    type: Literal["Recreate", "InPlace", "CheckpointRestore"] | None = None
    """Recreate (also when empty) makes pods anew, InPlace changes running ones, CheckpointRestore keeps their state."""
    max_unavailable: IntOrPercent = 1
    """Sandboxes changed at once: a number or a percentage."""


class StateFilter(Model):
    """Chooses sandboxes by their state."""

    states: Annotated[list[StateName], Field(json_schema_extra=Atomic)] = ["Running"]  # noqa: RUF012 - pydantic copies it
    """States of the sandboxes to change."""


class SandboxUpdateOpsSpec(Model):
    """Which sandboxes are changed, how, and how fast."""

    selector: LabelSelector
    """Sandboxes to change."""
    update_strategy: UpdateOpsStrategy | None = None
    """How the change is rolled out."""
    patch: Schemaless | None = None
    """Strategic merge patch of the pod template."""
    lifecycle: Lifecycle | None = None
    """Hooks set on every changed sandbox."""
    paused: bool = False
    """Whether the roll-out is halted."""
    state_filter: StateFilter | None = None
    """States of the sandboxes to change; only running ones when empty."""


class SandboxUpdateOpsStatus(Model):
    """How far the roll-out is."""

    observed_generation: Int64 | None = None
    """Generation that this status was made from."""
    phase: Literal["Pending", "Updating", "Completed", "Failed"] | None = None
    """Where the roll-out is."""
    replicas: Int32 = Field(default=0, ge=0)
    """Sandboxes chosen."""
    updated_replicas: Int32 = Field(default=0, ge=0)
    """Sandboxes changed."""
    failed_replicas: Int32 = Field(default=0, ge=0)
    """Sandboxes that could not be changed."""
    updating_replicas: Int32 = Field(default=0, ge=0)
    """Sandboxes being changed."""
    conditions: Conditions | None = None
    """Details."""


class SandboxUpdateOps(Model):
    """One change of many claimed sandboxes, rolled out step by step."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: SandboxUpdateOpsSpec
    """What is changed."""
    status: SandboxUpdateOpsStatus | None = None
    """How far the roll-out is."""
