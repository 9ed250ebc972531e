"""Phases, condition types and reasons: the words that clients, tests and ``kubectl wait`` compare.

The names are those of the ``agents.kruise.io/v1alpha1`` system; its e2e suite compares the reasons literally.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from appliance.api.structs import Condition


class Phase(StrEnum):
    """``status.phase`` of a Sandbox; the empty string before the controller first saw it."""

    PENDING = "Pending"
    RUNNING = "Running"
    PAUSED = "Paused"
    RESUMING = "Resuming"
    UPGRADING = "Upgrading"
    RECYCLING = "Recycling"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    TERMINATING = "Terminating"


class ClaimPhase(StrEnum):
    """``status.phase`` of a SandboxClaim."""

    CLAIMING = "Claiming"
    COMPLETED = "Completed"


# Condition types of a Sandbox
READY: Final = "Ready"
SANDBOX_PAUSED: Final = "SandboxPaused"
SANDBOX_RESUMED: Final = "SandboxResumed"
INPLACE_UPDATE: Final = "InplaceUpdate"
UPGRADING: Final = "Upgrading"
RUNTIME_INITIALIZED: Final = "RuntimeInitialized"
RECYCLING: Final = "Recycling"
RESTARTED: Final = "Restarted"  # ours: a container of the delivered sandbox was started again, and what that cost

# Condition types of a SandboxClaim
COMPLETED: Final = "Completed"
TIMED_OUT: Final = "TimedOut"


class Reason:
    """Reasons, grouped by the condition they appear in (some appear in several)."""

    # Ready
    POD_READY: Final = "PodReady"
    INPLACE_UPDATING: Final = "InplaceUpdating"  # also InplaceUpdate
    UPGRADING: Final = "Upgrading"
    START_CONTAINER_FAILED: Final = "StartContainerFailed"
    POD_CREATE_FAILED: Final = "PodCreateFailed"
    UNSCHEDULABLE: Final = "Unschedulable"  # ours: no node has room for the pod
    NODE_NOT_READY: Final = "NodeNotReady"  # ours: the pod's node does not answer
    CONTAINER_ENDED: Final = "ContainerEnded"  # ours, also Restarted: a container ended or was killed
    EVICTED: Final = "Evicted"  # ours, of a failed sandbox: the cluster took its pod away
    # SandboxPaused
    PENDING: Final = "Pending"  # also RuntimeInitialized
    IMAGE_CHANGED: Final = "ImageChanged"
    CHECKPOINT_CREATING: Final = "CheckpointCreating"
    CHECKPOINT_SUCCEEDED: Final = "CheckpointSucceeded"
    CHECKPOINT_FAILED: Final = "CheckpointFailed"  # also Upgrading
    SNAPSHOT_PAUSE_SUCCEED: Final = "SnapshotPauseSucceed"
    STOP_PAUSE_SUCCEED: Final = "StopPauseSucceed"
    FREEZE_PAUSE_SUCCEED: Final = "FreezePauseSucceed"  # ours, with the strategy Freeze
    FILESYSTEM_PAUSE_SUCCEED: Final = "FilesystemPauseSucceed"  # ours: files are kept, processes have ended
    # SandboxResumed
    CREATE_POD: Final = "CreatePod"
    RESUME_POD: Final = "ResumePod"
    # InplaceUpdate
    FORBIDDEN: Final = "Forbidden"  # ours: a running pod cannot change so, and the message says what helps
    NOT_SUPPORTED: Final = "NotSupported"  # ours, also Upgrading: it is not carried out, and the message says why
    # InplaceUpdate, RuntimeInitialized, Upgrading
    SUCCEEDED: Final = "Succeeded"
    FAILED: Final = "Failed"
    # Upgrading
    RESUMING: Final = "Resuming"
    RESUME_SUCCEED: Final = "ResumeSucceed"
    PRE_UPGRADE: Final = "PreUpgrade"
    PRE_UPGRADE_FAILED: Final = "PreUpgradeFailed"
    CHECKPOINTING: Final = "Checkpointing"
    UPGRADE_POD: Final = "UpgradePod"
    UPGRADE_POD_FAILED: Final = "UpgradePodFailed"
    POST_UPGRADE: Final = "PostUpgrade"
    POST_UPGRADE_FAILED: Final = "PostUpgradeFailed"
    # Recycling
    RECYCLING_STARTED: Final = "RecyclingStarted"
    RECYCLING_COMPLETED: Final = "RecyclingCompleted"
    RECYCLING_SUCCEEDED: Final = "RecyclingSucceeded"
    RECYCLING_FAILED: Final = "RecyclingFailed"
    RECYCLING_TIMEOUT: Final = "RecyclingTimeout"
    RECYCLING_REJECTED: Final = "RecyclingRejected"


def find(conditions: Iterable[Condition], type: str) -> Condition | None:  # noqa: A002 - the field's own word
    """The condition of that type, or None."""
    return next((condition for condition in conditions if condition.type == type), None)


def is_true(conditions: Iterable[Condition], type: str) -> bool:  # noqa: A002 - the field's own word
    """Whether the condition of that type is present with status ``True``."""
    return any(condition.type == type and condition.status == "True" for condition in conditions)
