"""From a pydantic model to a structural schema, the dialect of OpenAPI that CRDs are written in.

Structural means: every value has one type, no ``$ref``, no ``anyOf`` around optional values, bounds and formats as
OpenAPI 3.0 has them, and the words ``x-kubernetes-*`` for what JSON schema cannot say. Optional fields are optional by
not being required, never by admitting null.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_KEPT = frozenset(
    {
        "type", "format", "description", "enum", "default", "pattern", "minimum", "maximum", "minLength", "maxLength",
        "minItems", "maxItems", "required", "properties", "items", "additionalProperties", "anyOf",
    }
)  # fmt: skip
_ROOT_TEXTS = {
    "apiVersion": "Group and version of this object's schema.",
    "kind": "Kind of this object.",
}


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """The ``openAPIV3Schema`` of a kind. Raises ValueError for what a structural schema cannot express."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    definitions = raw.pop("$defs", {})
    schema = _convert(raw, definitions, model.__name__)
    for name, text in _ROOT_TEXTS.items():
        schema["properties"][name] = {"type": "string", "description": text}
    schema["properties"]["metadata"] = {"type": "object"}
    schema["required"] = ["spec"]
    return schema


def _convert(node: dict[str, Any], definitions: dict[str, Any], path: str) -> dict[str, Any]:
    node = _resolve(node, definitions, path)
    schema: dict[str, Any] = {}
    for word, value in node.items():
        if word == "properties":
            schema[word] = {name: _convert(child, definitions, f"{path}.{name}") for name, child in value.items()}
        elif word == "items" or (word == "additionalProperties" and isinstance(value, dict)):
            schema[word] = _convert(value, definitions, f"{path}.{word}")
        elif word == "const":
            schema["enum"] = [value]
        elif word == "default" and value is None:
            continue
        elif word == "description":
            schema[word] = " ".join(value.split())
        elif word == "additionalProperties":
            continue  # true or false: what unknown fields mean is the API server's business
        elif word in _KEPT or word.startswith("x-kubernetes-"):
            schema[word] = value
        elif word != "title":
            raise ValueError(f"{path}: {word!r} has no place in a structural schema")
    if "type" not in schema and not schema.get("x-kubernetes-int-or-string"):
        raise ValueError(f"{path}: no type")
    return schema


def _resolve(node: dict[str, Any], definitions: dict[str, Any], path: str) -> dict[str, Any]:
    """Inline references and unwrap ``X | None``; what stands beside them (description, default) wins."""
    while True:
        if "$ref" in node:
            beside = {word: value for word, value in node.items() if word != "$ref"}
            node = {**definitions[node["$ref"].rsplit("/", 1)[1]], **beside}
        elif "anyOf" in node and not node.get("x-kubernetes-int-or-string"):
            choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
            if len(choices) != 1:
                raise ValueError(f"{path}: a union of {len(choices)} types is not structural")
            beside = {word: value for word, value in node.items() if word != "anyOf"}
            node = {**choices[0], **beside}
        else:
            return node
