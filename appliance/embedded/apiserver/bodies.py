"""Reading request bodies: bounded, JSON or YAML, with the errors Kubernetes gives."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml
from aiohttp import web

from appliance.embedded.apiserver import protobuf
from appliance.embedded.apiserver.status import bad_request, too_large, unsupported_media

JSON_TYPES = ("application/json", "application/yaml")
"""Formats every kind may be written in; core kinds also as protobuf."""


async def read_body(http: web.BaseRequest, limit: int) -> bytes:
    """The whole body; ApiStatus 413 above ``limit`` bytes, without reading further."""
    if http.content_length is not None and http.content_length > limit:
        raise too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while chunk := await http.content.readany():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def media_type(http: web.BaseRequest) -> str:
    """The body's media type without parameters, lower case; "" when not given."""
    return http.headers.get("Content-Type", "").split(";")[0].strip().lower()


def parse_object(data: bytes, media: str) -> dict[str, Any]:
    """The body as an object; ApiStatus 400 when it is not one, 415 for formats that are not read."""
    if media == protobuf.MEDIA:
        return protobuf.decode_object(data)
    if media not in ("", *JSON_TYPES):
        raise unsupported_media(JSON_TYPES)
    value = parse_yaml(data) if media == "application/yaml" else parse_json(data)
    if not isinstance(value, dict):
        raise bad_request(f"the object provided is unrecognized: expected a JSON object, got {type(value).__name__}")
    return value


def parse_json(data: bytes) -> Any:
    """Any JSON value; ApiStatus 400 with the position of the error."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"the object provided is unrecognized: it is not valid JSON: {error}") from None


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: timestamps stay strings."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(data: bytes) -> Any:
    """Any YAML value (JSON is tried first, it is what clients mostly send); ApiStatus 400 with the position."""
    if data[:1] in (b"{", b"["):
        try:
            return msgspec.json.decode(data)
        except msgspec.DecodeError:
            pass
    try:
        return yaml.load(data, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise bad_request(f"the object provided is unrecognized: it is not valid YAML: {error}") from None
