"""``meta.k8s.io/v1`` Tables and metadata-only objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from appliance.embedded.apiserver.resources import Resource
from appliance.embedded.apiserver.store.record import Record
from appliance.embedded.apiserver.tables import core
from appliance.embedded.apiserver.tables.ages import age
from appliance.embedded.apiserver.tables.jsonpath import JsonPath

Object = dict[str, Any]
NAME = {"name": "Name", "type": "string", "format": "name", "description": "Name of the object", "priority": 0}
AGE = {"name": "Age", "type": "string", "format": "", "description": "Time since creation", "priority": 0}


def table(res: Resource, records: Iterable[Record], version: str, query: Mapping[str, str]) -> Object:
    """A Table of ``records``; ``includeObject`` (None, Metadata, Object) decides what each row carries."""
    include = query.get("includeObject") or "Metadata"
    definitions, cells = _layout(res)
    rows = []
    for record in records:
        obj = record.object()
        row: Object = {"cells": cells(obj)}
        if include != "None":
            row["object"] = obj if include == "Object" else partial(obj)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": definitions,
        "rows": rows,
    }


def partial(obj: Object) -> Object:
    """The object's metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def _layout(res: Resource) -> tuple[list[Object], Callable[[Object], list[Any]]]:
    if res.custom:
        return _custom(res)
    columns = core.COLUMNS.get(res.key)
    if columns is None:
        return [NAME, AGE], lambda obj: [obj["metadata"]["name"], age(obj["metadata"].get("creationTimestamp"))]
    definitions = [
        {
            "name": c.name,
            "type": c.type,
            "format": "name" if c.name == "Name" else "",
            "description": c.name,
            "priority": c.wide,
        }
        for c in columns
    ]
    return definitions, lambda obj: [column.cell(obj) for column in columns]


def _custom(res: Resource) -> tuple[list[Object], Callable[[Object], list[Any]]]:
    declared = res.columns or ({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},)
    definitions = [NAME] + [
        {
            "name": column["name"],
            "type": column.get("type", "string"),
            "format": column.get("format", ""),
            "description": column.get("description", ""),
            "priority": column.get("priority", 0),
        }
        for column in declared
    ]
    paths = [(JsonPath.parse(column["jsonPath"]), column.get("type", "string")) for column in declared]

    def cells(obj: Object) -> list[Any]:
        return [obj["metadata"]["name"], *(_cell(path.find(obj), kind) for path, kind in paths)]

    return definitions, cells


def _cell(found: list[Any], kind: str) -> Any:
    """One cell of a custom column; nothing found prints as empty, which kubectl shows as ``<none>``."""
    if not found:
        return None
    value = found[0]
    match kind:
        case "date":
            return age(value) if isinstance(value, str) else "<unknown>"
        case "integer" if isinstance(value, int | float):
            return int(value)
        case "number" | "boolean" if isinstance(value, bool | int | float):
            return value
        case "string":
            return value if isinstance(value, str) else _text(found)
        case _:
            return _text(found)


def _text(found: list[Any]) -> str:
    texts = [("true" if v else "false") if isinstance(v, bool) else str(v) for v in found]
    return ",".join(texts)
