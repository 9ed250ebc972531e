"""Checkpoint: the saved state of a sandbox."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from appliance.api.meta import Atomic, Int64, Model, ObjectMeta, Schemaless, Time


class CheckpointSpec(Model):
    """What is saved."""

    sandbox_name: str | None = None
    """Sandbox to save."""
    pod_name: str | None = None
    """Pod to save."""
    keep_running: bool = True
    """Whether the sandbox goes on running."""
    persistent_contents: (
        Annotated[list[Literal["podInfo", "memory", "filesystem"]], Field(json_schema_extra=Atomic)] | None
    ) = None
    """What is saved: podInfo, memory, filesystem."""
    ttl_after_finished: str | None = Field(default=None, pattern=r"^[0-9]+[smhd]$", max_length=32)
    """How long the finished checkpoint is kept, such as 30s, 30m or 30d."""


class CheckpointStatus(Model):
    """How far saving is."""

    observed_generation: Int64 | None = None
    """Generation that this status was made from."""
    phase: Literal["Pending", "Creating", "Succeeded", "Failed", "Terminating"] | None = None
    """Where saving is."""
    message: str | None = None
    """Explains the phase to people."""
    checkpoint_id: str | None = None
    """Id by which sandboxes are made from it."""
    completion_time: Time | None = None
    """When saving ended."""
    pod_template_delta: Schemaless | None = None
    """Strategic merge patch from the sandbox's template to the pod that was saved."""


class Checkpoint(Model):
    """The saved state of a sandbox, from which others can be made."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: CheckpointSpec
    """What is saved."""
    status: CheckpointStatus | None = None
    """How far saving is."""
