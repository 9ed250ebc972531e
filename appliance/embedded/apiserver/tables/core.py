"""Columns of the built-in kinds, as ``kubectl get`` prints them. ``wide`` columns show with ``-o wide``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from appliance.embedded.apiserver.tables.ages import age
from appliance.embedded.apiserver.tables.pods import pod_ready, pod_restarts, pod_status

Object = dict[str, Any]


class Column(NamedTuple):
    """One column: its header, type, what fills it, and 1 when it shows only with ``-o wide``."""

    name: str
    cell: Callable[[Object], Any]
    wide: int = 0
    type: str = "string"


def _at(*keys: str, default: Any = "") -> Callable[[Object], Any]:
    def look(obj: Object) -> Any:
        value: Any = obj
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return default if value is None or value == "" else value

    return look


def _age(obj: Object) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _join(values: Any, empty: str = "<none>") -> str:
    return ",".join(str(value) for value in values) or empty


def _node_status(obj: Object) -> str:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    ready = next((c.get("status") for c in conditions if c.get("type") == "Ready"), None)
    words = ["Ready" if ready == "True" else "NotReady" if ready is not None else "Unknown"]
    if (obj.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_roles(obj: Object) -> str:
    prefix = "node-role.kubernetes.io/"
    return _join(
        sorted(key.removeprefix(prefix) for key in obj["metadata"].get("labels") or {} if key.startswith(prefix))
    )


def _address(kind: str) -> Callable[[Object], str]:
    def look(obj: Object) -> str:
        addresses = (obj.get("status") or {}).get("addresses") or ()
        return next((a["address"] for a in addresses if a.get("type") == kind), "<none>")

    return look


def _info(field: str) -> Callable[[Object], Any]:
    return _at("status", "nodeInfo", field)


def _ports(obj: Object) -> str:
    ports = (obj.get("spec") or {}).get("ports") or ()
    return _join(
        f"{p.get('port')}" + (f":{p['nodePort']}" if p.get("nodePort") else "") + f"/{p.get('protocol', 'TCP')}"
        for p in ports
    )


def _selector(obj: Object) -> str:
    return _join(f"{key}={value}" for key, value in sorted(((obj.get("spec") or {}).get("selector") or {}).items()))


def _event_seen(obj: Object) -> str:
    series = obj.get("series") or {}
    moment = series.get("lastObservedTime") or obj.get("lastTimestamp") or obj.get("eventTime")
    return age(moment or obj["metadata"].get("creationTimestamp"))


def _event_object(obj: Object) -> str:
    about = obj.get("involvedObject") or {}
    return f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"


def _event_count(obj: Object) -> int:
    return int((obj.get("series") or {}).get("count") or obj.get("count") or 1)


def _modes(obj: Object) -> str:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    modes = (obj.get("status") or {}).get("accessModes") or (obj.get("spec") or {}).get("accessModes") or ()
    return _join((short.get(mode, mode) for mode in modes), "")


def _volume_claim(obj: Object) -> str:
    reference = (obj.get("spec") or {}).get("claimRef") or {}
    return f"{reference.get('namespace')}/{reference.get('name')}" if reference else ""


def _claim_phase(obj: Object) -> str:
    return "Terminating" if "deletionTimestamp" in obj["metadata"] else str(_at("status", "phase")(obj))


def _data_count(*fields: str) -> Callable[[Object], str]:
    return lambda obj: str(sum(len(obj.get(field) or {}) for field in fields))


_NAME = Column("Name", lambda obj: obj["metadata"]["name"])
_AGE = Column("Age", _age)
COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "pods": (
        _NAME, Column("Ready", pod_ready), Column("Status", pod_status), Column("Restarts", pod_restarts), _AGE,
        Column("IP", _at("status", "podIP", default="<none>"), 1),
        Column("Node", _at("spec", "nodeName", default="<none>"), 1),
        Column("Nominated Node", _at("status", "nominatedNodeName", default="<none>"), 1),
        Column("Readiness Gates", lambda obj: "<none>", 1),
    ),
    "nodes": (
        _NAME, Column("Status", _node_status), Column("Roles", _node_roles), _AGE,
        Column("Version", _info("kubeletVersion")),
        Column("Internal-IP", _address("InternalIP"), 1), Column("External-IP", _address("ExternalIP"), 1),
        Column("OS-Image", _info("osImage"), 1), Column("Kernel-Version", _info("kernelVersion"), 1),
        Column("Container-Runtime", _info("containerRuntimeVersion"), 1),
    ),
    "namespaces": (_NAME, Column("Status", _at("status", "phase")), _AGE),
    "events": (
        Column("Last Seen", _event_seen), Column("Type", _at("type")), Column("Reason", _at("reason")),
        Column("Object", _event_object), Column("Subobject", _at("involvedObject", "fieldPath"), 1),
        Column("Source", _at("source", "component"), 1), Column("Message", _at("message")),
        Column("First Seen", lambda obj: age(obj.get("firstTimestamp") or obj["metadata"].get("creationTimestamp")), 1),
        Column("Count", _event_count, 1, "integer"), Column("Name", lambda obj: obj["metadata"]["name"], 1),
    ),
    "secrets": (_NAME, Column("Type", _at("type")), Column("Data", _data_count("data")), _AGE),
    "configmaps": (_NAME, Column("Data", _data_count("data", "binaryData")), _AGE),
    "services": (
        _NAME, Column("Type", _at("spec", "type")), Column("Cluster-IP", _at("spec", "clusterIP", default="<none>")),
        Column("External-IP", lambda obj: _join((obj.get("spec") or {}).get("externalIPs") or ())),
        Column("Port(s)", _ports), _AGE, Column("Selector", _selector, 1),
    ),
    "serviceaccounts": (_NAME, Column("Secrets", lambda obj: len(obj.get("secrets") or ()), 0, "integer"), _AGE),
    "persistentvolumeclaims": (
        _NAME, Column("Status", _claim_phase), Column("Volume", _at("spec", "volumeName")),
        Column("Capacity", _at("status", "capacity", "storage")), Column("Access Modes", _modes),
        Column("StorageClass", _at("spec", "storageClassName")), _AGE,
        Column("VolumeMode", _at("spec", "volumeMode"), 1),
    ),
    "persistentvolumes": (
        _NAME, Column("Capacity", _at("spec", "capacity", "storage")), Column("Access Modes", _modes),
        Column("Reclaim Policy", _at("spec", "persistentVolumeReclaimPolicy")), Column("Status", _claim_phase),
        Column("Claim", _volume_claim), Column("StorageClass", _at("spec", "storageClassName")),
        Column("Reason", _at("status", "reason")), _AGE,
    ),
    "leases.coordination.k8s.io": (_NAME, Column("Holder", _at("spec", "holderIdentity")), _AGE),
    "customresourcedefinitions.apiextensions.k8s.io": (
        _NAME, Column("Created At", _at("metadata", "creationTimestamp")),
    ),
}  # fmt: skip
