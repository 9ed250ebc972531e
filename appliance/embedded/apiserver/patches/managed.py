"""``metadata.managedFields``: who set what.

Ownership is recorded from an object's first server-side apply on; objects nobody applies that way carry none, which
keeps claims and status writes small. What stood in an object before counts as ``before-first-apply``'s.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from appliance.embedded.apiserver.objects.meta import Object, now
from appliance.embedded.apiserver.patches.fieldset import Path, fields_of, from_fields_v1, to_fields_v1
from appliance.embedded.apiserver.resources import Resource

BEFORE_FIRST_APPLY = "before-first-apply"


class Manager(NamedTuple):
    """Identity of one entry."""

    name: str
    operation: str
    subresource: str


class Managers:
    """The owners of one object's fields."""

    def __init__(self, res: Resource, obj: Object | None) -> None:
        self._res = res
        self._times: dict[Manager, str] = {}
        self.sets: dict[Manager, set[Path]] = {}
        entries = (obj or {}).get("metadata", {}).get("managedFields")
        for entry in entries or ():
            manager = Manager(entry.get("manager", ""), entry.get("operation", "Update"), entry.get("subresource", ""))
            self.sets[manager] = from_fields_v1(entry.get("fieldsV1"))
            self._times[manager] = entry.get("time", "")
        if not entries and obj is not None:
            paths = set(fields_of(res, obj, status="status" not in res.subresources))
            self.sets[Manager(BEFORE_FIRST_APPLY, "Update", "")] = paths

    def others(self, manager: Manager) -> list[Manager]:
        """Every owner but ``manager``."""
        return [other for other in self.sets if other != manager]

    def give(self, manager: Manager, paths: set[Path]) -> None:
        """Makes ``paths`` the whole of what ``manager`` owns."""
        if self.sets.get(manager) != paths:
            self._times[manager] = now()
        self.sets[manager] = paths

    def take(self, manager: Manager, paths: set[Path]) -> None:
        """Removes ``paths`` from ``manager``."""
        self.sets[manager] -= paths

    def entries(self) -> list[dict[str, Any]]:
        """The list as stored; owners of nothing are left out."""
        found = []
        for manager, paths in self.sets.items():
            if not paths:
                continue
            entry = {
                "manager": manager.name,
                "operation": manager.operation,
                "apiVersion": self._res.api_version,
                "time": self._times.get(manager) or now(),
                "fieldsType": "FieldsV1",
                "fieldsV1": to_fields_v1(paths),
            }
            found.append(entry | ({"subresource": manager.subresource} if manager.subresource else {}))
        return found


def track_update(res: Resource, old: Object, new: Object, name: str, subresource: str | None) -> None:
    """After a write that is not an apply: the writer owns what it changed, others lose it."""
    before, after = old["metadata"], new["metadata"]
    if not before.get("managedFields"):
        after.pop("managedFields", None)
        return
    sent = after.get("managedFields")
    if sent is not None and sent != before["managedFields"]:
        if not any(sent):
            after.pop("managedFields")
        return
    after["managedFields"] = before["managedFields"]
    old_fields, new_fields = fields_of(res, old, status=True), fields_of(res, new, status=True)
    changed = {path for path, value in new_fields.items() if path not in old_fields or old_fields[path] != value}
    removed = old_fields.keys() - new_fields.keys()
    if not changed and not removed:
        return
    managers = Managers(res, old)
    me = Manager(name, "Update", subresource or "")
    for other in managers.others(me):
        managers.take(other, changed | removed)
    managers.give(me, (managers.sets.get(me, set()) | changed) - removed)
    after["managedFields"] = managers.entries()
