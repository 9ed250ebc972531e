"""The same as ``structs`` for the kinds of Kubernetes itself: only the fields that somebody here reads."""

# ruff: noqa: RUF012 - msgspec copies an empty default for each object

from __future__ import annotations

from typing import Any

from msgspec import field

from appliance.api.structs import Condition, Object, Record


# Pod --------------------------------------------------------------------------------------------------------------
class ContainerStateRunning(Record, frozen=True, gc=False):
    """``state.running``."""

    started_at: str | None = None


class ContainerStateWaiting(Record, frozen=True, gc=False):
    """``state.waiting``."""

    reason: str = ""
    message: str = ""


class ContainerStateTerminated(Record, frozen=True, gc=False):
    """``state.terminated``."""

    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None


class ContainerState(Record, frozen=True, gc=False):
    """``containerStatuses[].state``: one of the three is set."""

    running: ContainerStateRunning | None = None
    waiting: ContainerStateWaiting | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Record, frozen=True, gc=False):
    """``status.containerStatuses[]``."""

    name: str
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    image: str = ""
    image_id: str = field(name="imageID", default="")
    container_id: str = field(name="containerID", default="")
    state: ContainerState = field(default_factory=ContainerState)
    last_state: ContainerState = field(default_factory=ContainerState)
    resources: dict[str, Any] | None = None


class PodSpec(Record, frozen=True, gc=False):
    """``spec`` of a pod; containers and volumes stay dicts."""

    node_name: str = ""
    containers: list[dict[str, Any]] = []
    init_containers: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    restart_policy: str = "Always"
    termination_grace_period_seconds: int | None = None
    hostname: str = ""
    service_account_name: str = ""
    security_context: dict[str, Any] | None = None


class PodStatus(Record, frozen=True, gc=False):
    """``status`` of a pod; ``phase`` is Pending, Running, Succeeded, Failed or Unknown."""

    phase: str = ""
    pod_ip: str = field(name="podIP", default="")
    host_ip: str = field(name="hostIP", default="")
    conditions: list[Condition] = []
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []
    reason: str = ""
    message: str = ""
    start_time: str | None = None
    qos_class: str = ""
    observed_generation: int = 0
    """Generation of the pod that the node has seen; 0 where nodes do not say (Kubernetes before 1.34)."""


class Pod(Object, frozen=True, gc=False):
    """A pod."""

    spec: PodSpec = field(default_factory=PodSpec)
    status: PodStatus = field(default_factory=PodStatus)


# Node -------------------------------------------------------------------------------------------------------------
class NodeSpec(Record, frozen=True, gc=False):
    """``spec`` of a node."""

    unschedulable: bool = False


class NodeStatus(Record, frozen=True, gc=False):
    """``status`` of a node."""

    conditions: list[Condition] = []
    capacity: dict[str, int | float | str] = {}
    allocatable: dict[str, int | float | str] = {}


class Node(Object, frozen=True, gc=False):
    """A node."""

    spec: NodeSpec = field(default_factory=NodeSpec)
    status: NodeStatus = field(default_factory=NodeStatus)


# The small ones ---------------------------------------------------------------------------------------------------
class Secret(Object, frozen=True, gc=False):
    """A Secret; values of ``data`` are the base64 strings of the wire."""

    type: str = "Opaque"
    data: dict[str, str] = {}


class ConfigMap(Object, frozen=True, gc=False):
    """A ConfigMap."""

    data: dict[str, str] = {}


class PersistentVolumeClaim(Object, frozen=True, gc=False):
    """A claim for a volume; spec and status stay dicts."""

    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class NamespaceStatus(Record, frozen=True, gc=False):
    """``status`` of a namespace; ``phase`` is Active or Terminating."""

    phase: str = ""


class Namespace(Object, frozen=True, gc=False):
    """A namespace."""

    status: NamespaceStatus = field(default_factory=NamespaceStatus)


class ObjectReference(Record, frozen=True, gc=False):
    """``involvedObject`` of an event."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    field_path: str = ""


class CoreEvent(Object, frozen=True, gc=False):
    """A core/v1 Event (named so because a watch has events too)."""

    involved_object: ObjectReference = field(default_factory=ObjectReference)
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int = 0
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    reporting_component: str = ""


class LeaseSpec(Record, frozen=True, gc=False):
    """``spec`` of a Lease; times are RFC 3339 with microseconds."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int = 0


class Lease(Object, frozen=True, gc=False):
    """A coordination.k8s.io/v1 Lease."""

    spec: LeaseSpec = field(default_factory=LeaseSpec)


class ValidatingWebhookConfiguration(Object, frozen=True, gc=False):
    """An admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration; its webhooks stay dicts."""

    webhooks: list[dict[str, Any]] = []


class CustomResourceDefinition(Object, frozen=True, gc=False):
    """An apiextensions.k8s.io/v1 CustomResourceDefinition; the schema stays a dict."""

    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}
