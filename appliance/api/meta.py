"""What the kinds of our group have in common, as pydantic models: the edges' view of the API.

The models are the single source of the CRDs: types, bounds and defaults come from the annotations, the texts that
``kubectl explain`` prints from the docstrings below each field, Kubernetes' own schema words from ``Schema`` marks.
Inside the program nobody passes these around (``structs`` are for that); they check what people write.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

DURATION = r"^[+-]?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"
"""Go's duration strings."""
DURATION_FROM_1S = r"^([0-9]+(\.[0-9]+)?[hms])*[1-9][0-9]*(\.[0-9]+)?[hms]([0-9]+(\.[0-9]+)?[hms])*$"
"""Go's duration strings of a second and more: a pattern, since schemas cannot compare durations."""
QUANTITY = r"^[+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
"""Kubernetes quantities that are not negative."""


class Model(BaseModel):
    """Base: camelCase on the wire, docstrings as descriptions, unknown fields ignored (the API server prunes them)."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True, extra="ignore"
    )


def words(**extensions: Any) -> dict[str, Any]:
    """``json_schema_extra`` for the words of Kubernetes: ``words(list_type="map")`` is ``x-kubernetes-list-type``."""
    return {"x-kubernetes-" + name.replace("_", "-"): value for name, value in extensions.items()}


def rule(rule: str, message: str) -> dict[str, Any]:
    """``json_schema_extra`` of one CEL rule."""
    return words(validations=[{"rule": rule, "message": message}])


ONE_TEMPLATE = rule(
    "has(self.template) != has(self.templateRef)", "exactly one of template and templateRef must be set"
)

Schemaless = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
"""An object whose schema is somebody else's: kept whole."""
IntOrPercent = Annotated[
    int | str,
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": "^[0-9]+%$",
            "minimum": 0,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""A number, or a percentage such as ``20%``."""
Quantity = Annotated[
    int | str,
    WithJsonSchema(
        {"anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": QUANTITY, "x-kubernetes-int-or-string": True}
    ),
]
Int32 = Annotated[int, Field(json_schema_extra={"format": "int32"})]
Int64 = Annotated[int, Field(json_schema_extra={"format": "int64"})]
Time = datetime
PersistentContent = Literal["ip", "memory", "filesystem"]


class ObjectMeta(Model):
    """Metadata of an object; its schema is the API server's own."""

    model_config = ConfigDict(extra="allow")


class Condition(Model):
    """One aspect of the current state."""

    type: str = Field(max_length=316)
    """Name of the aspect, in CamelCase."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str | None = Field(default=None, max_length=1024)
    """Why, as one CamelCase word for programs."""
    message: str | None = Field(default=None, max_length=32768)
    """Why, for people."""
    last_transition_time: Time | None = None
    """When the status last changed."""
    observed_generation: Int64 | None = Field(default=None, ge=0)
    """Generation of the object that this was concluded from."""


Conditions = Annotated[list[Condition], Field(json_schema_extra=words(list_type="map", list_map_keys=["type"]))]


class TemplateRef(Model):
    """Names a SandboxTemplate of the same namespace."""

    name: str = Field(min_length=1)
    """Name of the SandboxTemplate."""
    kind: str | None = None
    """Kind referred to; SandboxTemplate when empty."""
    api_version: str | None = None
    """Group and version referred to; agents.kruise.io/v1alpha1 when empty."""


class HibernateStrategy(Model):
    """How the state of a hibernated sandbox is kept."""

    type: Literal["Snapshot"] | None = None
    """Medium of the state."""


class PauseStrategy(Model):
    """How a sandbox is paused."""

    type: Literal["Freeze", "Hibernate", "Stop"] | None = None
    """Freeze keeps memory and files and releases the processor; Hibernate keeps memory and files and releases
    everything; Stop keeps only volumes and what persistentContents asks for. Empty: chosen from persistentContents."""
    hibernate_strategy: HibernateStrategy | None = None
    """Details of Hibernate."""


class Runtime(Model):
    """A runtime component to be put into the pod."""

    name: str = Field(min_length=1)
    """agent-runtime, csi, traffic-proxy, or a key of the injection ConfigMap."""


Atomic = words(list_type="atomic")
PersistentContents = Annotated[list[PersistentContent], Field(json_schema_extra=Atomic)]
Runtimes = Annotated[list[Runtime], Field(json_schema_extra=Atomic)]
Claims = Annotated[list[Schemaless], Field(json_schema_extra=Atomic)]


class ExecAction(Model):
    """A command."""

    command: Annotated[list[str], Field(json_schema_extra=Atomic)] | None = None
    """Program and arguments; no shell is involved."""


class Hook(Model):
    """Something done inside the sandbox around an upgrade."""

    exec: ExecAction | None = None
    """Command run by the sandbox's runtime."""
    timeout_seconds: Int32 = Field(default=60, ge=1)
    """Seconds the command may take."""


class Lifecycle(Model):
    """Hooks around an upgrade that makes the pod anew."""

    pre_upgrade: Hook | None = None
    """Before the old pod is deleted, for instance to save work."""
    post_upgrade: Hook | None = None
    """After the new pod is ready, for instance to restore it."""
