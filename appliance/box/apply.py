"""``appliance apply -f``: create or change the objects of YAML files, for boxes without kubectl.

An object that does not exist is created; one that exists is changed by a merge patch with what the file says. What the
file leaves out stays as it is; for anything finer there is ``kubectl apply``, which works against the same API.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from appliance.api import kinds
from appliance.config import KubeSettings
from appliance.kube.cluster import Cluster
from appliance.kube.errors import AlreadyExists


async def apply_files(settings: KubeSettings, files: Sequence[str], say: Callable[[str], None]) -> None:
    """Apply every document of every file, in order, telling ``say`` one line per object.

    Raises:
        ValueError: a file is not YAML, or a document names no known kind; the message names file and field.
        KubeError: the API refused an object.
    """
    documents = [item for name in files for item in _documents(name)]
    cluster = await Cluster.connect(settings)
    try:
        for source, document in documents:
            say(await _apply(cluster, source, document))
    finally:
        await cluster.close()


def _documents(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    text = sys.stdin.read() if name == "-" else Path(name).read_text()
    try:
        parsed = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise ValueError(f"{name}: not valid YAML: {error}") from None
    for index, document in enumerate(parsed):
        if document is None:
            continue
        if not isinstance(document, dict):
            raise ValueError(f"{name}, document {index + 1}: expected an object, found {type(document).__name__}")
        yield f"{name}, document {index + 1}", document


def _kind(source: str, document: dict[str, Any]) -> kinds.Kind[Any]:
    wanted = (document.get("apiVersion"), document.get("kind"))
    for kind in kinds.ALL:
        if (kind.api_version, kind.kind) == wanted:
            return kind
    known = ", ".join(sorted(kind.kind for kind in kinds.ALL))
    raise ValueError(f"{source}: apiVersion {wanted[0]!r}, kind {wanted[1]!r} is not one of {known}")


async def _apply(cluster: Cluster, source: str, document: dict[str, Any]) -> str:
    kind = _kind(source, document)
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str):
        raise ValueError(f"{source}: metadata.name: expected a string")
    namespace = metadata.get("namespace", "default") if kind.namespaced else None
    try:
        await cluster.create(kind, namespace, document)
    except AlreadyExists:
        await cluster.patch(kind, namespace, name, document)
        return f"{kind.kind.lower()}/{name} configured"
    return f"{kind.kind.lower()}/{name} created"
