"""Tags of templates: labels of the SandboxSet, so that ``name:tag`` means it wherever the manager runs.

A set has one build, its current revision, and every tag names that; ``default`` is always there and no label. The
label's value is the instant of the assignment in unix seconds. Writes are merge patches of single labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from appliance.api.kinds import SANDBOXSET
from appliance.api.labels import TAG_PREFIX
from appliance.api.structs import SandboxSet
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer
from appliance.manager.errors import Fault, invalid

DEFAULT_TAG = "default"
MAX_TAGS = 64
"""Of one template."""
_TAG = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,61}[a-z0-9])?")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def tags_of(pool: SandboxSet) -> dict[str, datetime | None]:
    """Tag → when it was assigned (None: not known), beside ``default``."""
    own = pool.meta.labels.items()
    return {key.removeprefix(TAG_PREFIX): _instant(value) for key, value in own if key.startswith(TAG_PREFIX)}


def check(tags: Sequence[str]) -> list[str]:
    """The tags in lower case. Raises Fault 400 naming the one that is none."""
    found = [one.lower() for one in tags]
    if not 1 <= len(found) <= MAX_TAGS:
        raise invalid("tags", f"expected 1 to {MAX_TAGS} tags, got {len(found)}")
    for one in found:
        if _TAG.fullmatch(one) is None or _UUID.fullmatch(one) is not None:
            raise invalid("tags", f"expected at most 63 of [a-z0-9._-], alphanumeric at the ends, got {one[:80]!r}")
    return list(dict.fromkeys(found))


class Tags:
    """Writes tags."""

    def __init__(self, cluster: Cluster, sets: Informer[SandboxSet]) -> None:
        self._cluster = cluster
        self._sets = sets

    async def assign(self, pool: SandboxSet, tags: Sequence[str], now: datetime) -> None:
        """Make the tags name the template. Raises Fault 400 when it would have too many, KubeError."""
        added = {f"{TAG_PREFIX}{one}": str(int(now.timestamp())) for one in tags if one != DEFAULT_TAG}
        if len(tags_of(pool).keys() | set(tags)) > MAX_TAGS:
            raise invalid("tags", f"expected at most {MAX_TAGS} tags of one template")
        await self._write(pool, added)

    async def remove(self, pool: SandboxSet, tags: Sequence[str]) -> None:
        """Take the tags away. Raises Fault 400 for ``default``, 404 for one that is not there, KubeError."""
        if DEFAULT_TAG in tags:
            raise Fault(400, f"tag '{DEFAULT_TAG}' cannot be deleted")
        known = tags_of(pool)
        for one in tags:
            if one not in known:
                raise Fault(404, f"tag '{one}' does not exist for template '{pool.name}'")
        await self._write(pool, {f"{TAG_PREFIX}{one}": None for one in tags})

    async def _write(self, pool: SandboxSet, changed: Mapping[str, str | None]) -> None:
        if changed:
            patch = {"metadata": {"labels": dict(changed)}}
            self._sets.observe(await self._cluster.patch(SANDBOXSET, pool.namespace, pool.name, patch))


def _instant(text: str) -> datetime | None:
    return datetime.fromtimestamp(int(text), UTC) if text.isascii() and text.isdigit() and len(text) < 12 else None
