"""SandboxClaim: takes sandboxes out of a pool, the Kubernetes way."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from appliance.api.meta import (
    DURATION,
    DURATION_FROM_1S,
    Conditions,
    Int32,
    Int64,
    Model,
    ObjectMeta,
    Quantity,
    Runtimes,
    Time,
    rule,
    words,
)


class Resources(Model):
    """Amounts of resources by name."""

    requests: dict[str, Quantity] | None = None
    """What is reserved."""
    limits: dict[str, Quantity] | None = None
    """What may be used."""


class InplaceUpdate(Model):
    """A change applied to the first container while claiming."""

    image: str | None = None
    """New image."""
    resources: Resources | None = None
    """New processor requests and limits."""


class DynamicVolume(Model):
    """A volume mounted into the running sandbox."""

    mount_path: str = Field(min_length=1)
    """Where it is mounted."""
    pv_name: str = Field(min_length=1)
    """PersistentVolume to mount."""
    mount_id: Annotated[str | None, Field(alias="mountID")] = None
    """Name of this mount."""
    sub_path: str | None = None
    """Directory inside the volume."""
    read_only: bool = False
    """Whether writing is forbidden."""
    attributes: dict[str, str] | None = None
    """Further attributes for the volume's driver."""


class SandboxClaimSpec(Model):
    """What is claimed, and what it shall become."""

    template_name: str = Field(min_length=1)
    """SandboxSet to claim from, in the same namespace."""
    replicas: Int32 = Field(default=1, ge=1, json_schema_extra=rule("self == oldSelf", "replicas is immutable"))
    """How many sandboxes to claim."""
    shutdown_time: Time | None = None
    """Becomes spec.shutdownTime of every claimed Sandbox."""
    claim_timeout: str = Field(default="1m", pattern=DURATION_FROM_1S, max_length=64)
    """How long to go on claiming, such as 90s or 1h30m, at least 1s; then the claim completes with what it has."""
    ttl_after_completed: str = Field(default="60m", pattern=DURATION, max_length=64)
    """How long the completed claim is kept, such as 30m; negative: for ever. The claimed sandboxes stay."""
    labels: dict[str, str] | None = None
    """Labels added to every claimed Sandbox and its pod."""
    annotations: dict[str, str] | None = None
    """Annotations added to every claimed Sandbox."""
    env_vars: dict[str, str] | None = None
    """Environment variables of everything that is started in the sandbox from now on."""
    inplace_update: InplaceUpdate | None = None
    """A change applied to the first container while claiming."""
    dynamic_volumes_mount: (
        Annotated[list[DynamicVolume], Field(json_schema_extra=words(list_type="map", list_map_keys=["mountPath"]))]
        | None
    ) = None
    """Volumes mounted after claiming."""
    runtimes: Runtimes | None = None
    """Runtime components the claim relies on."""
    reserve_failed_sandbox: bool = False
    """Whether sandboxes that fail while being claimed are kept for inspection."""
    create_on_no_stock: bool = True
    """Whether sandboxes are made on demand when the pool is empty."""
    wait_ready_timeout: str = Field(default="30s", pattern=DURATION_FROM_1S, max_length=64)
    """How long to wait for a sandbox that was made on demand or updated, such as 30s, at least 1s."""
    skip_init_runtime: bool = False
    """Whether the runtime's initialisation is left out."""


class ClaimedSandbox(Model):
    """A sandbox that was claimed."""

    name: str
    """Name of the Sandbox."""
    sandbox_id: Annotated[str | None, Field(alias="sandboxID")] = None
    """Id by which the E2B API knows it."""


class SandboxClaimStatus(Model):
    """How far the claim is."""

    observed_generation: Int64 | None = None
    """Generation that this status was made from."""
    phase: Literal["Claiming", "Completed"] | None = None
    """Claiming, or Completed."""
    message: str | None = None
    """Explains the phase to people."""
    claimed_replicas: Int32 = Field(default=0, ge=0)
    """How many sandboxes were claimed."""
    claim_start_time: Time | None = None
    """When claiming began."""
    completion_time: Time | None = None
    """When the claim completed."""
    conditions: Conditions | None = None
    """Completed and TimedOut."""
    claimed_sandboxes: (
        Annotated[list[ClaimedSandbox], Field(json_schema_extra=words(list_type="map", list_map_keys=["name"]))] | None
    ) = None
    """The sandboxes that were claimed."""


class SandboxClaim(Model):
    """A request for sandboxes of one pool; the claimed ones belong to whoever made the request."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: SandboxClaimSpec
    """What is claimed."""
    status: SandboxClaimStatus | None = None
    """How far the claim is."""
