"""Content negotiation: JSON objects, Tables (kubectl get) or metadata only; protobuf alone is refused."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

from aiohttp import web

from appliance.embedded.apiserver.status import not_acceptable


class Form(Enum):
    """The shape of an answer."""

    OBJECT = "object"
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"


def wanted(http: web.BaseRequest) -> Form:
    """The first acceptable form of the ``Accept`` header; ApiStatus 406 when there is none."""
    accept = http.headers.get("Accept")
    return Form.OBJECT if accept is None else _parse(accept)


@lru_cache(maxsize=256)
def _parse(accept: str) -> Form:
    for entry in accept.split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        if media not in ("application/json", "application/*", "*/*", "application/yaml"):
            continue
        options = dict(p.partition("=")[::2] for p in parameters)
        shape = options.get("as", "")
        if shape == "Table" and options.get("v") == "v1":
            return Form.TABLE
        if shape in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return Form.METADATA
        if not shape and media != "application/yaml":
            return Form.OBJECT
    raise not_acceptable("application/json")
