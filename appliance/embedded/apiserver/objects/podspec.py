"""The pod template part that pods and the sandbox kinds share: defaults and validation of a PodSpec.

Enough of the core API's rules to name a wrong field; types and unknown fields are the schema's business.
"""

from __future__ import annotations

import re
from typing import Any

from appliance.embedded.apiserver.status import FieldError

_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_QUANTITY = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+|[KMGTPE]i|[numkMGTPE])?$")
_CHOICES = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
}
_PULL = ("Always", "IfNotPresent", "Never")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
Errors = list[FieldError]


def default_spec(spec: dict[str, Any]) -> None:
    """Fills what the core API fills."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    spec.setdefault("enableServiceLinks", True)
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        if isinstance(container, dict):
            _default_container(container)


def _default_container(container: dict[str, Any]) -> None:
    image = str(container.get("image") or "")
    latest = "@" not in image and (image.endswith(":latest") or ":" not in image.rsplit("/", 1)[-1])
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = container.setdefault("resources", {})
    if isinstance(resources, dict) and isinstance(resources.get("limits"), dict):
        requests = resources.setdefault("requests", {})
        for name, amount in resources["limits"].items():
            requests.setdefault(name, amount)
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
    for name in _PROBES:
        probe = container.get(name)
        if isinstance(probe, dict):
            _default_probe(probe)


def _default_probe(probe: dict[str, Any]) -> None:
    defaults = (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3))
    for field, value in defaults:
        probe.setdefault(field, value)
    http = probe.get("httpGet")
    if isinstance(http, dict):
        http.setdefault("path", "/")
        http.setdefault("scheme", "HTTP")


def qos_class(spec: dict[str, Any]) -> str:
    """Guaranteed, Burstable or BestEffort, by the containers' cpu and memory."""
    containers = [
        c for c in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())] if isinstance(c, dict)
    ]
    resources = [c.get("resources") or {} for c in containers]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    for item in resources:
        limits, requests = item.get("limits") or {}, item.get("requests") or {}
        for name in ("cpu", "memory"):
            if name not in limits or requests.get(name, limits[name]) != limits[name]:
                return "Burstable"
    return "Guaranteed"


def validate_spec(spec: dict[str, Any], path: str, errors: Errors) -> None:
    """Appends every wrong field of a PodSpec under ``path``."""
    containers = spec.get("containers")
    if not containers:
        errors.append(_required(f"{path}.containers"))
    names: set[str] = set()
    volumes = _volumes(spec, path, errors)
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            _container(container, f"{path}.{kind}[{index}]", names, volumes, kind, errors)
    for field, allowed in _CHOICES.items():
        if spec.get(field) is not None:
            _one_of(spec[field], allowed, f"{path}.{field}", errors)


def _volumes(spec: dict[str, Any], path: str, errors: Errors) -> set[str]:
    names: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or ()):
        where = f"{path}.volumes[{index}]"
        name = volume.get("name")
        _name(name, f"{where}.name", names, errors)
        sources = [key for key in volume if key != "name"]
        if len(sources) > 1:
            errors.append(FieldError(f"{where}.{sorted(sources)[1]}", "FieldValueForbidden",
                                     "Forbidden: may not specify more than 1 volume type"))  # fmt: skip
    return names


def _container(item: dict[str, Any], where: str, names: set[str], volumes: set[str], kind: str, errors: Errors) -> None:
    _name(item.get("name"), f"{where}.name", names, errors)
    image = item.get("image")
    if not image:
        errors.append(_required(f"{where}.image"))
    elif image != image.strip():
        text = f'Invalid value: "{image}": must not have leading or trailing whitespace'
        errors.append(FieldError(f"{where}.image", "FieldValueInvalid", text))
    if item.get("imagePullPolicy") is not None:
        _one_of(item["imagePullPolicy"], _PULL, f"{where}.imagePullPolicy", errors)
    if kind == "initContainers" and item.get("restartPolicy") not in (None, "Always", "Never", "OnFailure"):
        _one_of(item["restartPolicy"], ("Always", "Never", "OnFailure"), f"{where}.restartPolicy", errors)
    for index, variable in enumerate(item.get("env") or ()):
        if not variable.get("name"):
            errors.append(_required(f"{where}.env[{index}].name"))
    _mounts(item, where, volumes, errors)
    _ports(item, where, errors)
    _resources(item.get("resources") or {}, f"{where}.resources", errors)
    for name in _PROBES:
        _handler(item.get(name), f"{where}.{name}", errors)
    for hook, handler in (item.get("lifecycle") or {}).items():
        if hook in ("postStart", "preStop"):
            _handler(handler, f"{where}.lifecycle.{hook}", errors, (*_HANDLERS, "sleep"))


def _mounts(item: dict[str, Any], where: str, volumes: set[str], errors: Errors) -> None:
    seen: set[str] = set()
    for index, mount in enumerate(item.get("volumeMounts") or ()):
        place = f"{where}.volumeMounts[{index}]"
        if not mount.get("name"):
            errors.append(_required(f"{place}.name"))
        elif mount["name"] not in volumes:
            errors.append(FieldError(f"{place}.name", "FieldValueNotFound", f'Not found: "{mount["name"]}"'))
        path = mount.get("mountPath")
        if not path:
            errors.append(_required(f"{place}.mountPath"))
        elif path in seen:
            errors.append(
                FieldError(f"{place}.mountPath", "FieldValueInvalid", f'Invalid value: "{path}": must be unique')
            )
        seen.add(str(path))


def _ports(item: dict[str, Any], where: str, errors: Errors) -> None:
    for index, port in enumerate(item.get("ports") or ()):
        number = port.get("containerPort")
        if not number:
            errors.append(_required(f"{where}.ports[{index}].containerPort"))
        elif not 0 < number < 65536:
            errors.append(FieldError(f"{where}.ports[{index}].containerPort", "FieldValueInvalid",
                                     f"Invalid value: {number}: must be between 1 and 65535, inclusive"))  # fmt: skip


def _resources(resources: dict[str, Any], where: str, errors: Errors) -> None:
    limits = resources.get("limits") or {}
    for kind in ("limits", "requests"):
        for name, amount in (resources.get(kind) or {}).items():
            if not _QUANTITY.match(str(amount)):
                text = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                text = f'Invalid value: "{amount}": {text}'
                errors.append(FieldError(f"{where}.{kind}[{name}]", "FieldValueInvalid", text))
            elif kind == "requests" and _exceeds(amount, limits.get(name)):
                text = f'Invalid value: "{amount}": must be less than or equal to {name} limit of {limits[name]}'
                errors.append(FieldError(f"{where}.requests", "FieldValueInvalid", text))


def _exceeds(amount: Any, limit: Any) -> bool:
    return limit is not None and bool(_QUANTITY.match(str(limit))) and quantity(amount) > quantity(limit)


def _handler(handler: Any, where: str, errors: Errors, allowed: tuple[str, ...] = _HANDLERS) -> None:
    if not isinstance(handler, dict):
        return
    chosen = [name for name in allowed if handler.get(name) is not None]
    if not chosen:
        errors.append(FieldError(where, "FieldValueRequired", "Required value: must specify a handler type"))
    elif len(chosen) > 1:
        text = "Forbidden: may not specify more than 1 handler type"
        errors.append(FieldError(f"{where}.{chosen[1]}", "FieldValueForbidden", text))
    for name in ("httpGet", "tcpSocket"):
        if name in chosen and not handler[name].get("port"):
            errors.append(_required(f"{where}.{name}.port"))
    if "exec" in chosen and not handler["exec"].get("command"):
        errors.append(_required(f"{where}.exec.command"))


def quantity(value: Any) -> float:
    """A resource quantity as a number of base units; ValueError when it is none."""
    match = _QUANTITY.match(str(value))
    if match is None:
        raise ValueError(f"not a quantity: {value!r}")
    suffix = match[3] or ""
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        return float(match[0])
    number = float(str(value)[: len(str(value)) - len(suffix)])
    if suffix.endswith("i"):
        return number * 1024.0 ** ("KMGTPE".index(suffix[0]) + 1)
    powers = {"": 0, "n": -3, "u": -2, "m": -1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
    return number * 1000.0 ** powers[suffix]


def _name(name: Any, where: str, taken: set[str], errors: Errors) -> None:
    if not name:
        errors.append(_required(where))
    elif len(name) > 63 or not _LABEL.match(name):
        text = (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
            "end with an alphanumeric character"
        )
        errors.append(FieldError(where, "FieldValueInvalid", f'Invalid value: "{name}": {text}'))
    elif name in taken:
        errors.append(FieldError(where, "FieldValueDuplicate", f'Duplicate value: "{name}"'))
    taken.add(str(name))


def _one_of(value: Any, allowed: tuple[str, ...], where: str, errors: Errors) -> None:
    if value not in allowed:
        shown = ", ".join(f'"{item}"' for item in allowed)
        errors.append(
            FieldError(where, "FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {shown}')
        )


def _required(where: str) -> FieldError:
    return FieldError(where, "FieldValueRequired", "Required value")
