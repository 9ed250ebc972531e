"""Request bodies: what a client may send, checked strictly at the edge.

Types are strict (``"60"`` is no number), unknown fields are ignored (newer SDKs send them), but not in ``network``,
where a misspelt one would leave open what was to be closed. Known ones that cannot be honoured are refused by whoever
would have to honour them. Fields and defaults: contract §1.6 and §1.7.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from quart import request

from appliance.manager.errors import from_validation


class Body(BaseModel):
    """Base of all: strict, camelCase, unknown fields ignored; the checker of each is made when it is first needed."""

    model_config = ConfigDict(strict=True, alias_generator=to_camel, extra="ignore", defer_build=True)


Port = Annotated[int, Field(ge=1, le=65535)]


class AutoResume(Body):
    """``autoResume``."""

    enabled: bool


class Strict(Body):
    """A body whose unknown fields are refused by name."""

    model_config = ConfigDict(strict=True, alias_generator=to_camel, extra="forbid")


class NetworkTransform(Strict):
    """``transform`` of a rule."""

    headers: dict[str, str] | None = None


class NetworkRule(Strict):
    """One of the rules of a domain."""

    transform: NetworkTransform | None = None


class Egress(Strict):
    """What ``network`` and its update have in common."""

    allow_out: list[str] | None = None
    deny_out: list[str] | None = None
    rules: dict[str, list[NetworkRule]] | None = None
    egress_proxy: dict[str, Any] | None = None
    dns_servers: list[str] | None = None
    allow_in: list[str] | None = None
    deny_in: list[str] | None = None

    def given(self) -> dict[str, Any]:
        """The members the client set, as it spelled them; without ``rules``, which are secret."""
        return self.model_dump(by_alias=True, exclude_unset=True, exclude_none=True, exclude={"rules"})

    def unsupported(self) -> list[tuple[str, object]]:
        """Members that nothing here can honour."""
        names = ("egress_proxy", "allow_in", "deny_in")
        return [(to_camel(name), getattr(self, name)) for name in names]


class NetworkConfig(Egress):
    """``network``; see ``network.py`` for what is honoured."""

    allow_public_traffic: bool | None = None
    mask_request_host: str | None = None
    https_ports: Annotated[list[Port] | None, Field(max_length=100)] = None


class NetworkUpdate(Egress):
    """``PUT …/network``: the egress part. What belongs to a create only is refused, not forgotten."""

    allow_public_traffic: bool | None = None
    mask_request_host: str | None = None
    https_ports: list[int] | None = None
    allow_internet_access: Annotated[bool | None, Field(alias="allow_internet_access")] = None

    def unsupported(self) -> list[tuple[str, object]]:
        """Members that nothing here can honour, also when they are ``false``."""
        names = ("allow_public_traffic", "mask_request_host", "https_ports")
        own = [(to_camel(name), getattr(self, name)) for name in names]
        return [*super().unsupported(), *((name, [value]) for name, value in own if value is not None)]


Name = Annotated[str, Field(min_length=1, max_length=128)]


class NewSandbox(Body):
    """``POST /sandboxes`` and ``POST /v2/sandboxes``; None: not given."""

    template_id: Annotated[str, Field(alias="templateID", min_length=1, max_length=256)]
    timeout: int | None = None
    auto_pause: bool | None = None
    auto_pause_memory: bool | None = None
    auto_resume: AutoResume | None = None
    secure: bool | None = None
    allow_internet_access: Annotated[bool | None, Field(alias="allow_internet_access")] = None
    network: NetworkConfig | None = None
    metadata: dict[str, str] | None = None
    env_vars: dict[str, str] | None = None
    mcp: dict[str, Any] | None = None
    iam: dict[str, Any] | None = None
    volume_mounts: list[dict[str, Any]] | None = None


class Connect(Body):
    """``POST …/connect``, v1 and v2."""

    timeout: int | None = None
    memory: bool | None = None


class Resume(Body):
    """``POST …/resume`` (deprecated)."""

    timeout: int | None = None
    auto_pause: bool | None = None
    memory: bool | None = None


class Pause(Body):
    """``POST …/pause``."""

    memory: bool | None = None
    require_healthy_guest: bool | None = None


class Timeout(Body):
    """``POST …/timeout``."""

    timeout: int


class Refresh(Body):
    """``POST …/refreshes``; seconds."""

    duration: Annotated[int, Field(ge=0, le=3600)] = 0


class AssignTags(Body):
    """``POST /templates/tags``."""

    target: Annotated[str, Field(max_length=256)]
    tags: list[str]


class RemoveTags(Body):
    """``DELETE /templates/tags``."""

    name: Annotated[str, Field(max_length=256)]
    tags: list[str]


class UpdateTemplate(Body):
    """``PATCH /v2/templates/{id}``."""

    public: bool | None = None


class UpdateApiKey(Strict):
    """``PATCH /api-keys/{id}``."""

    name: Name


class NewApiKey(Strict):
    """``POST /api-keys``."""

    name: Name
    team_name: Name | None = None


class UpdateTeam(Strict):
    """``PATCH /teams/{id}``: what is left out stays."""

    blocked: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    banned: bool = False


B = TypeVar("B", bound=Body)


async def raw_body() -> bytes:
    """The present request's body; read once, kept."""
    return bytes(await request.get_data(cache=True, as_text=False))  # type: ignore[arg-type]  # as_text: bytes


async def read(model: type[B], *, optional: bool = False) -> B:
    """The present request's body as ``model``; with ``optional`` no body counts as ``{}``.

    Raises:
        Fault: 400 for malformed JSON or a field that does not fit.
    """
    raw = await raw_body()
    if optional and not raw.strip():
        raw = b"{}"
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise from_validation(error) from None
