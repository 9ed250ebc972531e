"""Sandbox: one isolated environment, backed by one pod of the same name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from appliance.api.meta import (
    ONE_TEMPLATE,
    Claims,
    Conditions,
    Int32,
    Int64,
    Lifecycle,
    Model,
    ObjectMeta,
    PauseStrategy,
    PersistentContents,
    Runtimes,
    Schemaless,
    TemplateRef,
    Time,
)

PhaseName = Literal[
    "Pending", "Running", "Paused", "Resuming", "Upgrading", "Recycling", "Succeeded", "Failed", "Terminating"
]


class UpgradePolicy(Model):
    """How a change of the template reaches the pod."""

    type: Literal["Recreate", "CheckpointRestore"] | None = None
    """Recreate makes the pod anew, CheckpointRestore also carries its state over; empty: in place where possible."""


class SandboxSpec(Model):
    """Desired state of a Sandbox."""

    model_config = ConfigDict(json_schema_extra=ONE_TEMPLATE)

    paused: bool = False
    """Whether the sandbox shall be paused; the only switch for pausing and resuming."""
    pause_strategy: PauseStrategy | None = None
    """How to pause."""
    persistent_contents: PersistentContents | None = None
    """What shall survive a pause: ip, memory, filesystem."""
    shutdown_time: Time | None = None
    """Instant at which the Sandbox is deleted."""
    pause_time: Time | None = None
    """Instant at which the sandbox is paused."""
    runtimes: Runtimes | None = None
    """Runtime components to be put into the pod."""
    lifecycle: Lifecycle | None = None
    """Hooks run inside the sandbox around an upgrade."""
    upgrade_policy: UpgradePolicy | None = None
    """How a change of the template reaches the pod."""
    template_ref: TemplateRef | None = None
    """The SandboxTemplate the pod is made from; instead of template."""
    template: Schemaless | None = None
    """The pod template (as in core/v1 PodTemplateSpec); instead of templateRef."""
    volume_claim_templates: Claims | None = None
    """PersistentVolumeClaims (as in core/v1) made for this sandbox, named TEMPLATE-SANDBOX and deleted with it."""


class PodInfo(Model):
    """The pod behind a sandbox, as last seen."""

    annotations: dict[str, str] | None = None
    """Annotations of the pod that matter."""
    labels: dict[str, str] | None = None
    """Labels of the pod that matter."""
    node_name: str | None = None
    """Node it runs on."""
    pod_ip: Annotated[str | None, Field(alias="podIP")] = None
    """Its address."""
    pod_uid: Annotated[str | None, Field(alias="podUID")] = None
    """Its uid."""


class SandboxStatus(Model):
    """Observed state of a Sandbox."""

    observed_generation: Int64 | None = None
    """Generation that this status was made from."""
    phase: PhaseName | None = None
    """Where in its life the sandbox is."""
    message: str | None = None
    """Explains the phase to people."""
    conditions: Conditions | None = None
    """Ready, SandboxPaused, SandboxResumed, InplaceUpdate, Upgrading, RuntimeInitialized, Recycling."""
    pod_info: PodInfo | None = None
    """The pod behind the sandbox, as last seen."""
    node_name: str | None = None
    """Node the sandbox runs on."""
    sandbox_ip: str | None = None
    """Address of the sandbox."""
    update_revision: str | None = None
    """Hash of the template the sandbox shall run."""
    recycled_count: Int32 | None = Field(default=None, ge=0)
    """How often the sandbox went back to its pool."""


class Sandbox(Model):
    """An isolated environment for running code, backed by one pod of the same name and namespace."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: SandboxSpec
    """What the sandbox shall be."""
    status: SandboxStatus | None = None
    """What the sandbox is."""
