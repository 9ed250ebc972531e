"""What an installation can be told: the values of the Helm chart, and of ``appliance install --values``.

One model: the chart's ``values.yaml`` and ``values.schema.json`` are written from it, and the command checks with it.
Given values are laid over the defaults as Helm does it: mappings merge, lists and scalars replace, null removes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from appliance import __version__

IMAGE = f"docker.io/library/appliance:{__version__}"
NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
DOMAIN = r"([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]*[a-z0-9])?(:[0-9]{1,5})?"
NAME_OR_EMPTY, DOMAIN_OR_EMPTY = f"({NAME})?", f"({DOMAIN})?"


def _whole(pattern: str, what: str) -> AfterValidator:
    def check(given: str) -> str:
        if not re.fullmatch(pattern, given):
            raise ValueError(f"expected {what}, got {given!r}")
        return given

    return AfterValidator(check)


def _shown(pattern: str) -> Any:
    return Field(json_schema_extra={"pattern": f"^{pattern}$"})


_IMAGE, _IMAGE_OR_NONE, _KEY = r"[^\s]+", r"[^\s]*", r"([!-~]{8,})?"
Image = Annotated[str, _whole(_IMAGE, "an image reference"), _shown(_IMAGE)]
OptionalImage = Annotated[str, _whole(_IMAGE_OR_NONE, "an image reference or nothing"), _shown(_IMAGE_OR_NONE)]
Name = Annotated[str, _whole(NAME, "a Kubernetes name"), _shown(NAME)]
OptionalName = Annotated[str, _whole(NAME_OR_EMPTY, "a Kubernetes name"), _shown(NAME_OR_EMPTY)]
Domain = Annotated[str, _whole(DOMAIN_OR_EMPTY, "a DNS name"), _shown(DOMAIN_OR_EMPTY)]
Key = Annotated[str, _whole(_KEY, "an API key of at least 8 characters"), _shown(_KEY)]


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=True, strict=True)


class Quantities(_Model):
    """Requests and limits of a container, as in a pod."""

    requests: dict[str, str | int | float] = Field(default_factory=dict)
    limits: dict[str, str | int | float] = Field(default_factory=dict)


def _quantities(cpu: str, memory: str, limit: str) -> Quantities:
    return Quantities(requests={"cpu": cpu, "memory": memory}, limits={"memory": limit})


class Managers(_Model):
    """The E2B API and the gateway."""

    replicas: int = Field(default=2, ge=1, le=100, description="pods; every one serves")
    resources: Quantities = Field(default_factory=lambda: _quantities("250m", "192Mi", "2Gi"))


class Controllers(_Model):
    """The reconcilers."""

    replicas: int = Field(default=2, ge=1, le=100, description="pods; one leads, the others stand by")
    resources: Quantities = Field(default_factory=lambda: _quantities("100m", "128Mi", "1Gi"))


class Tls(_Model):
    """TLS at the managers themselves."""

    secret_name: OptionalName = Field(default="", description="Secret of type kubernetes.io/tls; empty: plain HTTP")


class Service(_Model):
    """The Service in front of the managers."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(default="ClusterIP", description="as in a Service")
    annotations: dict[str, str] = Field(default_factory=dict)


_STREAMS = {
    "nginx.ingress.kubernetes.io/proxy-body-size": "0",
    "nginx.ingress.kubernetes.io/proxy-buffering": "off",
    "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
    "nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
    "nginx.ingress.kubernetes.io/proxy-send-timeout": "3600",
}


class Ingress(_Model):
    """An Ingress for the domain and everything below it."""

    enabled: bool = Field(default=False, description="needs domain")
    class_name: OptionalName = Field(default="", description="ingress class; empty: the cluster's default")
    tls_secret_name: OptionalName = Field(
        default="", description="certificate of the domain and *.domain, for the ingress"
    )
    annotations: dict[str, str] = Field(
        default_factory=lambda: dict(_STREAMS), description="streams and large files pass ingress-nginx with these"
    )


class NetworkPolicies(_Model):
    """Who may talk to whom."""

    enabled: bool = Field(default=True, description="keeps sandboxes apart; needs a network plugin that enforces them")


class Crds(_Model):
    """The definitions of our kinds."""

    install: bool = Field(default=True, description="never removed by Helm: deleting them deletes every sandbox")


class Values(_Model):
    """All values of one installation."""

    image: Image = Field(default=IMAGE, description="the image of `appliance image build`, as nodes have it or pull it")
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="as in a pod"
    )
    image_pull_secrets: list[Name] = Field(default_factory=list, description="names of Secrets in sandbox-system")
    runtime_image: OptionalImage = Field(default="", description="of the sidecar in sandboxes; empty: the same image")
    domain: Domain = Field(default="", description="E2B domain: clients use api.DOMAIN and PORT-ID.DOMAIN")
    api_key: Key = Field(default="", description="the first API key; empty: it is in the Secret apiKeySecret already")
    api_key_secret: Name = Field(
        default="appliance-api-key", description="Secret in sandbox-system whose entry api-key is the first API key"
    )
    tls: Tls = Field(default_factory=Tls)
    managers: Managers = Field(default_factory=Managers)
    controllers: Controllers = Field(default_factory=Controllers)
    service: Service = Field(default_factory=Service)
    ingress: Ingress = Field(default_factory=Ingress)
    network_policies: NetworkPolicies = Field(default_factory=NetworkPolicies)
    sandbox_namespaces: list[Name] = Field(
        default_factory=lambda: ["default"], description="namespaces of pools, whose sandboxes get a NetworkPolicy"
    )
    create_namespace: bool = Field(
        default=False, description="make sandbox-system too; `helm install --create-namespace` does it otherwise"
    )
    crds: Crds = Field(default_factory=Crds)
    node_selector: dict[str, str] = Field(default_factory=dict, description="of managers and controllers")
    tolerations: list[dict[str, Any]] = Field(default_factory=list, description="of managers and controllers")

    @model_validator(mode="after")
    def _ingress_has_a_host(self) -> Values:
        if self.ingress.enabled and not self.domain:
            raise ValueError("ingress.enabled: an Ingress needs domain")
        return self


def parse(given: Mapping[str, Any], names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Values laid over the defaults, checked. ``names`` maps a path to how its giver knows it (``--managers``).

    Raises:
        ValueError: names the value and says what was expected.
    """
    try:
        checked = Values.model_validate(merged(defaults(), given))
    except ValidationError as error:
        raise ValueError("; ".join(_complaint(one, names or {}) for one in error.errors())) from None
    return checked.model_dump(by_alias=True)


def defaults() -> dict[str, Any]:
    """The values of the chart as it is."""
    return Values().model_dump(by_alias=True)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid over ``base`` as Helm does it."""
    made = dict(base)
    for key, value in over.items():
        if value is None and key in made:
            del made[key]
        elif isinstance(value, Mapping) and isinstance(made.get(key), Mapping):
            made[key] = merged(made[key], value)
        else:
            made[key] = value
    return made


def schema() -> dict[str, Any]:
    """JSON schema of the values, for Helm."""
    made = Values.model_json_schema(by_alias=True)
    needs = {"if": {"properties": {"ingress": {"properties": {"enabled": {"const": True}}}}}}
    made["allOf"] = [{**needs, "then": {"properties": {"domain": {"minLength": 1}}}}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _complaint(error: Any, names: Mapping[str, str]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if not place:
        return message
    known = names.get(place) or names.get(place.rpartition(".")[0]) or place
    if error["type"] == "extra_forbidden":
        return f"{known}: there is no such value"
    message = message.replace("Input should be", "expected").replace("expected greater", "expected a number greater")
    message = message.replace("expected less", "expected a number less")
    return f"{known}: {message}" if ", got " in message else f"{known}: {message}, got {error['input']!r}"
