"""Pod templates inside the sandbox kinds: their CRDs keep templates schemaless, so this names wrong fields in them.

On other clusters a webhook may do the same. An update that leaves the template alone is not checked again.
"""

from __future__ import annotations

import copy
from typing import Any

from appliance.embedded.apiserver.objects import podspec
from appliance.embedded.apiserver.objects.meta import Object
from appliance.embedded.apiserver.schema.check import Check
from appliance.embedded.apiserver.schema.core import core_node
from appliance.embedded.apiserver.status import FieldError

_TEMPLATE = core_node("core.v1.PodTemplateSpec")
_PATH = ((None, "spec"), "template")


def validate(new: Object, old: Object | None, subresource: str | None, errors: list[FieldError]) -> None:
    """Appends the wrong fields of ``spec.template`` of a new or changed object."""
    template = _template(new)
    if template is None or subresource == "status" or (old is not None and _template(old) == template):
        return
    walk = _walk(template)
    errors.extend(FieldError(_place(text), "FieldValueTypeInvalid", f"Invalid value: {text}") for text in walk.mistyped)
    errors.extend(walk.errors)
    if not walk.mistyped:
        podspec.validate_spec(template.get("spec") or {}, "spec.template.spec", errors)


def unknown_fields(new: Object, old: Object | None) -> list[str]:
    """Paths in a new or changed ``spec.template`` that no pod template has."""
    template = _template(new)
    if template is None or (old is not None and _template(old) == template):
        return []
    return _walk(template).unknown


def _template(obj: Object) -> dict[str, Any] | None:
    template = (obj.get("spec") or {}).get("template")
    return template if isinstance(template, dict) else None


def _walk(template: dict[str, Any]) -> Check:
    walk = Check()
    walk.required = False
    walk.walk(_TEMPLATE, copy.deepcopy(template), None, _PATH)
    return walk


def _place(text: str) -> str:
    return text.split(" into field ")[1].split(" of type ", maxsplit=1)[0]
