"""What can change in a running pod, and how far such a change is. Pure.

A pod carries the hash of the template it conforms to. When its sandbox's template has another one, ``change_of`` says
what differs: images, cpu and memory of regular containers, labels and annotations can change in place; anything else
needs a new pod. ``progress_of`` compares what the node reports with what the pod now asks for, so that it holds for
every further change of the same pod, for less as well as for more, and for an image that is the old one under a new
name.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any

from appliance.api import conditions, labels
from appliance.api.corestructs import ContainerStatus, Pod
from appliance.api.imagenames import normal
from appliance.api.quantities import quantity
from appliance.controller import pod_reading
from appliance.controller.revision import hash_of

Json = dict[str, Any]
Amounts = Mapping[str, Mapping[str, str]]
RESIZABLE = ("cpu", "memory")
_TOLERANCE = Decimal("0.011")
"""Relative difference within which a reported amount is the one asked for: control groups round."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """The way from a pod as it is to the template its sandbox has now."""

    revision: str
    """Hash of that template."""
    forbidden: bool = False
    """Something else than images, cpu, memory and metadata differs: only a new pod can have it."""
    images: Mapping[str, str] = field(default_factory=dict)
    """Container -> new image."""
    resources: Mapping[str, Json] = field(default_factory=dict)
    """Container -> new ``resources``."""
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """New or changed ``labels`` and ``annotations``; keys that a template no longer has stay on the pod."""

    @property
    def disturbs(self) -> bool:
        """Whether the sandbox is not ready meanwhile."""
        return bool(self.images or self.resources)


def immutable_part(template: Mapping[str, Any]) -> str:
    """Hash of what a running pod cannot change."""
    spec = copy.deepcopy(dict(template.get("spec") or {}))
    for container in spec.get("containers") or []:
        container.pop("image", None)
        resources = container.get("resources") or {}
        for kind in ("requests", "limits"):
            left = {name: str(value) for name, value in (resources.get(kind) or {}).items() if name not in RESIZABLE}
            resources = {**resources, kind: left}
        container["resources"] = {kind: value for kind, value in resources.items() if value}
    return hash_of(spec)


def change_of(template: Mapping[str, Any], revision: str, pod: Pod) -> Change | None:
    """What the pod lacks of that template; None when it has it all."""
    if pod.meta.labels.get(labels.POD_TEMPLATE_HASH, revision) == revision:
        return None
    if pod.meta.annotations.get(labels.HASH_IMMUTABLE) != immutable_part(template):
        return Change(revision=revision, forbidden=True)
    present = {container["name"]: container for container in pod.spec.containers}
    images, resources = {}, {}
    for wanted in (template.get("spec") or {}).get("containers") or []:
        found = present.get(wanted.get("name"))
        if found is None:
            return Change(revision=revision, forbidden=True)
        if wanted.get("image") and wanted["image"] != found.get("image"):
            images[found["name"]] = str(wanted["image"])
        asked = _effective(wanted.get("resources") or {})
        if not _same(asked, _effective(found.get("resources") or {})):
            resources[found["name"]] = _merged(found.get("resources") or {}, asked)
    return Change(revision=revision, images=images, resources=resources, metadata=_metadata(template, pod))


def _metadata(template: Mapping[str, Any], pod: Pod) -> dict[str, dict[str, str]]:
    wanted = template.get("metadata") or {}
    parts = {"labels": pod.meta.labels, "annotations": pod.meta.annotations}
    return {
        part: {key: str(value) for key, value in (wanted.get(part) or {}).items() if known.get(key) != str(value)}
        for part, known in parts.items()
    }


def _effective(resources: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """cpu and memory as the API server completes them: a request that is missing is the limit."""
    limits = {name: str(value) for name, value in (resources.get("limits") or {}).items() if name in RESIZABLE}
    requests = {name: str(value) for name, value in (resources.get("requests") or {}).items() if name in RESIZABLE}
    return {"requests": {**limits, **requests}, "limits": limits}


def _same(wanted: Amounts, found: Amounts) -> bool:
    return all(
        wanted[kind].keys() == found[kind].keys()
        and all(_equal(value, found[kind][name]) for name, value in wanted[kind].items())
        for kind in wanted
    )


def _equal(one: str, other: str) -> bool:
    try:
        first, second = quantity(one), quantity(other)
    except ValueError:
        return one == other
    return abs(first - second) <= abs(first) * _TOLERANCE


def _merged(found: Mapping[str, Any], wanted: Amounts) -> Json:
    """The pod's resources with cpu and memory as wanted; what is not resizable stays."""
    result: Json = dict(found)
    for kind in ("requests", "limits"):
        kept = {name: value for name, value in (found.get(kind) or {}).items() if name not in RESIZABLE}
        result[kind] = {**kept, **wanted.get(kind, {})}
    return {kind: value for kind, value in result.items() if value}


# Writing it ---------------------------------------------------------------------------------------------------------


def resize_patch(change: Change, pod: Pod) -> Json:
    """Merge patch of the ``resize`` subresource."""
    containers = [
        {**item, **_if_present("resources", change.resources.get(item["name"]))} for item in pod.spec.containers
    ]
    return {"metadata": {"uid": pod.uid}, "spec": {"containers": containers}}


def update_patch(change: Change, pod: Pod, now: str) -> Json:
    """Merge patch of the pod: images, metadata, the new revision, and which containers the node has to replace."""
    containers = [{**item, **_if_present("image", change.images.get(item["name"]))} for item in pod.spec.containers]
    present = {status.name: status for status in pod.status.container_statuses}
    replaced = {name: _identity(present.get(name)) for name in change.images}
    state = {"revision": change.revision, "updateTimestamp": now, "lastContainerStatuses": replaced}
    meta = {
        "uid": pod.uid,
        "labels": {**change.metadata.get("labels", {}), labels.POD_TEMPLATE_HASH: change.revision},
        "annotations": {**change.metadata.get("annotations", {}), labels.INPLACE_STATE: json.dumps(state)},
    }
    return {"metadata": meta, **({"spec": {"containers": containers}} if change.images else {})}


def _if_present(key: str, value: Any) -> Json:
    return {} if value is None else {key: value}


def _identity(status: ContainerStatus | None) -> dict[str, str]:
    return {"containerID": status.container_id, "imageID": status.image_id} if status is not None else {}


# Watching it --------------------------------------------------------------------------------------------------------


class Stage(Enum):
    """How far the last change of a pod is."""

    NONE = "never changed"
    PENDING = "under way"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class Progress:
    """``message``: what it waits for, or why it failed."""

    stage: Stage
    message: str = ""
    revision: str = ""


def replaced(pod: Pod) -> bool:
    """Whether containers of the pod were replaced since it was made."""
    return bool(_state(pod).get("lastContainerStatuses"))


def progress_of(pod: Pod) -> Progress:
    """How far the pod's last change is, by what its node reports."""
    state = _state(pod)
    if not state:
        return Progress(Stage.NONE)
    revision = str(state.get("revision") or "")
    if trouble := _failure(pod):
        return Progress(Stage.FAILED, trouble, revision)
    waiting = [*_images_missing(pod, state), *_resources_missing(pod)]
    if waiting:
        return Progress(Stage.PENDING, "; ".join(waiting), revision)
    if not pod_reading.ready(pod):
        return Progress(Stage.PENDING, pod_reading.unready(pod), revision)
    return Progress(Stage.DONE, "", revision)


def _state(pod: Pod) -> Json:
    try:
        found = json.loads(pod.meta.annotations.get(labels.INPLACE_STATE, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _failure(pod: Pod) -> str:
    trouble = pod_reading.start_failure(pod)
    if trouble:
        return trouble
    pending = conditions.find(pod.status.conditions, "PodResizePending")
    if pending is not None and pending.status == "True" and pending.reason == "Infeasible":
        return f"the node cannot give the resources asked for: {pending.reason}: {pending.message}"
    running = conditions.find(pod.status.conditions, "PodResizeInProgress")
    if running is not None and running.status == "True" and running.reason == "Error":
        return f"the node could not apply the resources asked for: {running.message}"
    return ""


def _images_missing(pod: Pod, state: Mapping[str, Any]) -> Iterator[str]:
    present = {status.name: status for status in pod.status.container_statuses}
    images = {container["name"]: str(container.get("image") or "") for container in pod.spec.containers}
    for name, before in (state.get("lastContainerStatuses") or {}).items():
        status = present.get(name)
        if status is None or not _runs(pod, status, images.get(name, ""), before):
            yield f"container {name} does not run image {images.get(name)} yet"


def _runs(pod: Pod, status: ContainerStatus, image: str, before: Mapping[str, str]) -> bool:
    """A new container, made from the new image as far as the node tells: by name, by generation, by the image's id."""
    if status.state.running is None or status.container_id == before.get("containerID"):
        return False
    if normal(status.image) == normal(image):
        return True
    if pod.status.observed_generation:
        return pod.status.observed_generation >= pod.meta.generation
    return status.image_id != before.get("imageID")


def _resources_missing(pod: Pod) -> Iterator[str]:
    present = {status.name: status for status in pod.status.container_statuses}
    deferred = conditions.find(pod.status.conditions, "PodResizePending")
    for container in pod.spec.containers:
        status = present.get(container["name"])
        wanted = _effective(container.get("resources") or {})
        if status is None or status.resources is None or status.state.running is None:
            continue
        if not _same(wanted, _effective(status.resources)):  # not merely enough: less is asked for as well
            why = f": {deferred.reason}: {deferred.message}" if deferred is not None and deferred.message else ""
            yield f"container {container['name']} does not have its new resources yet{why}"
