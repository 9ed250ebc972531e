"""Which sandboxes can be delivered: the index the engine picks from, kept by the sandbox informer.

An object is filed under ``namespace/template`` only while it is deliverable, so that picking never scans sandboxes
in use. Whether it still is, is asked again at the pick (time passes) and settled by the API server at the write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final

from appliance.api import labels, times
from appliance.api.states import State, sandbox_state
from appliance.api.structs import Sandbox

POOL_INDEX: Final = "pool"
ID_INDEX: Final = "id"


def deliverable(sandbox: Sandbox, now: datetime) -> bool:
    """Available, with an address, and not locked by a claim or by a scale-down."""
    if not sandbox.status.sandbox_ip or labels.LOCK in sandbox.meta.annotations or sandbox.spec.paused:
        return False
    return sandbox_state(sandbox, now)[0] is State.AVAILABLE


def template_of(sandbox: Sandbox) -> str:
    """The template name clients use: the label, or the pool's name on objects that lack it."""
    found = sandbox.meta.labels
    return found.get(labels.TEMPLATE) or found.get(labels.POOL, "")


def pool_key(namespace: str, template: str) -> str:
    """The value under which ``POOL_INDEX`` files the deliverable sandboxes of a template."""
    return f"{namespace}/{template}"


def by_pool(sandbox: Sandbox) -> Iterable[str]:
    """Index function of ``POOL_INDEX``."""
    if deliverable(sandbox, times.now()):
        yield pool_key(sandbox.namespace, template_of(sandbox))


def by_id(sandbox: Sandbox) -> Iterable[str]:
    """Index function of ``ID_INDEX``: the id of the current delivery."""
    sandbox_id = sandbox.meta.labels.get(labels.SANDBOX_ID)
    if sandbox_id:
        yield sandbox_id


SANDBOX_INDEXES: Final[Mapping[str, Callable[[Sandbox], Iterable[str]]]] = {POOL_INDEX: by_pool, ID_INDEX: by_id}
"""Indexes an ``Informer[Sandbox]`` given to the engine must have."""
