"""``pods/NAME/log`` and ``…/exec``: choosing the container, then relaying to the node."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from appliance.embedded.apiserver.backend import Backend, Call
from appliance.embedded.apiserver.status import bad_request
from appliance.embedded.apiserver.store.record import Record

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


async def serve(backend: Backend, call: Call, record: Record) -> web.StreamResponse:
    """Streams the answer of the node; ApiStatus 400 when the container is unclear or unknown."""
    container = choose_container(record.object(), call.query.get("container"))
    relay = backend.relay.logs if call.subresource == "log" else backend.relay.exec
    return await relay(call.http, record.namespace, record.name, container)


def choose_container(pod: dict[str, Any], asked: str | None) -> str:
    """The named container, the annotated default, or the only one."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    names = [item["name"] for item in spec.get("containers") or ()]
    every = [item["name"] for item in spec.get("initContainers") or ()] + names
    asked = asked or (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    if asked is None:
        if len(names) == 1:
            return str(names[0])
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(every)}]")
    if asked not in every:
        raise bad_request(f"container {asked} is not valid for pod {name}")
    return asked
