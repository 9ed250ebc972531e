"""Short descriptions of core types and fields for ``kubectl explain``, in our own words.

Fields without an entry are described from their name: the type and place say most of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

DOCS: Mapping[str, str] = {
    "core.v1.Pod": "A group of containers that run together: on this box, one isolated sandbox process tree.",
    "core.v1.PodSpec": "What a pod should run and how.",
    "core.v1.PodStatus": "What the node observed of a pod.",
    "core.v1.Container": "One program of a pod: its image, command, environment and limits.",
    "core.v1.Container.image": "Image name. Names the box does not have run on the box's own read-only root.",
    "core.v1.Container.command": "Program and arguments instead of the image's entrypoint.",
    "core.v1.Container.args": "Arguments of the entrypoint.",
    "core.v1.Container.env": "Environment variables, merged by name.",
    "core.v1.Container.resources": "CPU and memory requests and limits; on one box only limits are enforced.",
    "core.v1.PodSpec.containers": "The pod's containers; at least one.",
    "core.v1.PodSpec.initContainers": "Run before the containers; with restartPolicy Always they stay as sidecars.",
    "core.v1.PodSpec.volumes": "Volumes that containers mount, by name.",
    "core.v1.PodSpec.nodeName": "The node that runs the pod; set at creation on this cluster.",
    "core.v1.PodSpec.restartPolicy": "Always, OnFailure or Never.",
    "core.v1.PodSpec.terminationGracePeriodSeconds": "Seconds between the polite and the forced end; default 30.",
    "core.v1.PodStatus.phase": "Pending, Running, Succeeded, Failed or Unknown.",
    "core.v1.PodStatus.conditions": "Aspects of the pod's state, one per type.",
    "core.v1.PodStatus.podIP": "Address of the pod on this box.",
    "core.v1.Node": "A machine that runs pods: here, the box itself.",
    "core.v1.Namespace": "A scope for names; deleting it deletes everything in it.",
    "core.v1.Event": "Something that happened to an object; kept for an hour.",
    "core.v1.Secret": "Small confidential values by key, base64-encoded.",
    "core.v1.Secret.stringData": "Plain text values; stored in data when written, never read back.",
    "core.v1.ConfigMap": "Small configuration values by key.",
    "core.v1.PersistentVolumeClaim": "A request for storage that outlives pods.",
    "core.v1.PersistentVolume": "A piece of storage.",
    "meta.v1.ObjectMeta": "What every object carries: names, labels, versions, owners.",
    "meta.v1.ObjectMeta.labels": "Key-value pairs that selectors match.",
    "meta.v1.ObjectMeta.annotations": "Key-value pairs that nothing selects by.",
    "meta.v1.ObjectMeta.name": "Unique within the namespace; cannot be changed.",
    "meta.v1.ObjectMeta.generateName": "Prefix of a generated name, used when name is empty.",
    "meta.v1.ObjectMeta.resourceVersion": "Version of this object; a write that names an older one is refused.",
    "meta.v1.ObjectMeta.ownerReferences": "Objects this one belongs to; it is deleted once all are gone.",
    "meta.v1.ObjectMeta.finalizers": "What must happen before a deleted object goes; it stays until the list is empty.",
    "meta.v1.ObjectMeta.deletionTimestamp": "When the object was (or will be) deleted; set by the server.",
    "meta.v1.ObjectMeta.generation": "Counts changes of the specification.",
    "meta.v1.ObjectMeta.creationTimestamp": "When the object was created; set by the server.",
    "coordination.v1.Lease": "A lock with an expiry, held by one process at a time.",
    "apiextensions.v1.CustomResourceDefinition": "Defines a kind of object and the schema it is checked against.",
}
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


def describe(path: str) -> str:
    """The description of ``group.version.Type`` or ``group.version.Type.field``."""
    known = DOCS.get(path)
    if known is not None:
        return known
    words = [word if word.isupper() else word.lower() for word in _WORD.findall(path.rsplit(".", 1)[-1])]
    return " ".join(words).capitalize() + "." if words else ""
