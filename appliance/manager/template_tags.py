"""The tag resources below a template: count, existence, groups, assignments (schema of SDK 2.63, contract §1.5). Pure.

A SandboxSet keeps no history: each tag has one assignment, the present one, of the set's one build.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from appliance.api import times
from appliance.manager.errors import invalid

_ASSIGNMENTS = uuid.UUID("3d2a1c70-52c7-5a0c-8c59-0f7c1f7a9f0b")
SORTS = ("latest_asc", "latest_desc", "name_asc", "name_desc")
MAX_SEARCH = 256


@dataclass(frozen=True)
class Tagged:
    """A template's build and its tags with the instants they were assigned."""

    build_id: str
    built: datetime
    tags: Mapping[str, datetime]


def count(of: Tagged) -> dict[str, Any]:
    """``TemplateTagsCountResponse``."""
    return {"total": len(of.tags)}


def exists(of: Tagged, tag: str) -> dict[str, Any]:
    """``TemplateTagExistsResponse``. Raises Fault 400 for an empty tag."""
    normal = tag.strip().lower()
    if not normal:
        raise invalid("tag", "expected the name of a tag")
    return {"exists": normal in of.tags, "normalizedTag": normal}


def assignment(of: Tagged, tag: str) -> dict[str, Any]:
    """``TemplateTagAssignment``."""
    at = of.tags[tag]
    return {
        "assignmentId": str(uuid.uuid5(_ASSIGNMENTS, f"{of.build_id}/{tag}/{at.isoformat()}")),
        "buildId": of.build_id,
        "assignedAt": times.format(at, micro=True),
        "buildCreatedAt": times.format(of.built, micro=True),
        "buildFinishedAt": times.format(of.built, micro=True),
    }


def groups(of: Tagged, *, search: str, sort: str, cursor: str | None, limit: int, assignments: int) -> dict[str, Any]:
    """``TemplateTagGroupsResponse``: one page of tags; the cursor is the last tag of the page before.

    Raises Fault 400 naming the parameter at fault.
    """
    if sort not in SORTS:
        raise invalid("sort", f"expected one of {', '.join(SORTS)}, got {sort[:80]!r}")
    if len(search) > MAX_SEARCH:
        raise invalid("search", f"expected at most {MAX_SEARCH} characters, got {len(search)}")
    names = [one for one in _ordered(of, sort) if search.lower() in one]
    if cursor is not None:
        if cursor not in names:
            raise invalid("tagsCursor", "expected nextCursor of the page before")
        names = names[names.index(cursor) + 1 :]
    page, more = names[:limit], len(names) > limit
    found = [
        {"tag": one, "assignments": [assignment(of, one)][:assignments], "hasMore": assignments < 1} for one in page
    ]
    return {"tags": found, "nextCursor": page[-1] if more else None}


def _ordered(of: Tagged, sort: str) -> Sequence[str]:
    by, _, direction = sort.partition("_")
    key = (lambda tag: (of.tags[tag], tag)) if by == "latest" else (lambda tag: tag)
    return sorted(of.tags, key=key, reverse=direction == "desc")
