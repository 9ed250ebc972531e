"""The write that makes a sandbox somebody's, and how its outcome becomes known.

Taking a pool member is one merge patch guarded by the ``resourceVersion`` it was seen at; making one on demand is one
creation under a name chosen here. Both carry a fresh lock UUID, which makes them safe to repeat: when the answer is
lost, the same write is sent again. It either lands (then the first one cannot, the version has moved on) or is
refused, and then one read tells whether the lock on the object is ours. So the outcome is always one of two: ours, or
not ours and never going to be.

These coroutines must run to their end (the engine gives each a task of its own): a cancelled write has no outcome.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from appliance.api import kinds, labels, times
from appliance.api.ids import new_sandbox_id
from appliance.api.structs import Sandbox, SandboxSet
from appliance.claims import newborn
from appliance.claims.request import ClaimRequest
from appliance.kube import errors
from appliance.kube.cluster import Cluster

log = logging.getLogger(__name__)

UNKNOWN_OUTCOME = (errors.Unreachable, errors.RequestTimeout, errors.ServerError)
"""Errors after which a write may or may not have happened."""
_RETRY_FIRST = 0.02
_RETRY_MAX = 1.0


@dataclass(frozen=True)
class Attempt:
    """One try to deliver: the id and the lock it would give the sandbox."""

    sandbox_id: str = field(default_factory=new_sandbox_id)
    lock: str = field(default_factory=lambda: str(uuid.uuid4()))


def claim_patch(request: ClaimRequest, attempt: Attempt, now: datetime) -> dict[str, Any]:
    """The merge patch that hands a sandbox over. Removing the owner reference is what takes it out of the pool."""
    own_labels = {labels.CLAIMED: "true", labels.SANDBOX_ID: attempt.sandbox_id}
    own_annotations = {
        labels.OWNER: request.owner,
        labels.LOCK: attempt.lock,
        labels.CLAIM_TIMESTAMP: times.format(now, micro=True),
    }
    if request.skip_init:
        own_annotations[labels.SHOULD_INIT_ENVD] = "false"
    if not request.secure:
        own_annotations[labels.SECURE] = "false"
    return {
        "metadata": {
            "labels": {**request.labels, **own_labels},
            "annotations": {**request.annotations, **own_annotations},
            "ownerReferences": [],
        },
        "spec": timers(request),
    }


def timers(request: ClaimRequest) -> dict[str, str | None]:
    """The part of ``spec`` that ends or pauses the sandbox."""
    return {
        "shutdownTime": times.format(request.shutdown_at) if request.shutdown_at else None,
        "pauseTime": times.format(request.pause_at) if request.pause_at else None,
    }


async def take(
    cluster: Cluster, candidate: Sandbox, patch: dict[str, Any], lock: str, *, timeout: float
) -> Sandbox | None:
    """Claim ``candidate`` as it was last seen. None: somebody else was faster, or it is gone.

    The write also clears who set which field (``managedFields``, by the documented ``[{}]``): until then that was the
    pool's controller alone, it is half of the object's bytes, and keeping it costs the server a third of the write and
    of each that follows.

    ``timeout`` seconds bound the repetitions after lost answers; then the KubeError of the last one is raised and the
    outcome stays unknown. Raises other KubeErrors as they come; those mean that nothing was written.
    """

    lean = {**patch, "metadata": {**patch["metadata"], "managedFields": [{}]}}

    async def write() -> Sandbox:
        return await cluster.patch(
            kinds.SANDBOX, candidate.namespace, candidate.name, lean, resource_version=candidate.meta.resource_version
        )

    async def look() -> Sandbox | None:
        found = await cluster.get(kinds.SANDBOX, candidate.namespace, candidate.name)
        return found if found.uid == candidate.uid else None

    return await _settle(write, look, lock, f"{candidate.namespace}/{candidate.name}", timeout)


async def make(
    cluster: Cluster, owner: SandboxSet, patch: dict[str, Any], lock: str, *, timeout: float
) -> Sandbox | None:
    """Create a sandbox that is delivered from birth. None: its random name was taken.

    Raises as ``take``.
    """
    name = newborn.new_name(owner.name)
    body = newborn.on_demand(owner, name, patch)

    async def write() -> Sandbox:
        return await cluster.create(kinds.SANDBOX, owner.namespace, body)

    async def look() -> Sandbox | None:
        return await cluster.get(kinds.SANDBOX, owner.namespace, name)

    return await _settle(write, look, lock, f"{owner.namespace}/{name}", timeout)


async def _settle(
    write: Callable[[], Awaitable[Sandbox]],
    look: Callable[[], Awaitable[Sandbox | None]],
    lock: str,
    what: str,
    timeout: float,
) -> Sandbox | None:
    """Repeat ``write`` until its outcome is known; see the module docstring for why that is safe."""
    doubtful, delay, give_up = False, _RETRY_FIRST, time.monotonic() + timeout
    while True:
        try:
            return await write()
        except errors.NotFound:
            return None
        except (errors.Conflict, errors.AlreadyExists):
            if not doubtful:
                return None
        except errors.StorageFull:
            if not doubtful:
                raise
        except UNKNOWN_OUTCOME as error:
            doubtful = True
            if time.monotonic() > give_up:
                log.error("claim of %s: outcome unknown after %g s, lock %s: %s", what, timeout, lock, error)
                raise
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RETRY_MAX)
            continue
        try:
            found = await look()
        except errors.NotFound:
            return None
        except UNKNOWN_OUTCOME:
            continue  # the next write conflicts again and brings us back here
        return found if found is not None and found.meta.annotations.get(labels.LOCK) == lock else None


async def discard(cluster: Cluster, sandbox: Sandbox, *, timeout: float, secrets: Iterable[str]) -> bool:
    """Delete a sandbox that was taken but cannot be delivered, and these Secrets; repeats for ``timeout`` seconds.

    False (and a log line) when the cluster could not be reached all that time.
    """
    done = await _delete(
        lambda: cluster.delete(kinds.SANDBOX, sandbox.namespace, sandbox.name, uid=sandbox.uid), timeout
    )
    for name in secrets:
        done &= await _delete(partial(cluster.delete, kinds.SECRET, sandbox.namespace, name), timeout)
    if not done:
        log.error("could not remove the undelivered sandbox %s/%s", sandbox.namespace, sandbox.name)
    return done


def secret_name(sandbox_name: str) -> str:
    """Name of the Secret with a delivery's environment variables."""
    return f"{sandbox_name}-init"


async def _delete(delete: Callable[[], Awaitable[None]], timeout: float) -> bool:
    delay, give_up = _RETRY_FIRST, time.monotonic() + timeout
    while True:
        try:
            await delete()
        except (errors.NotFound, errors.Conflict):
            return True  # gone, or another object under the same name
        except errors.KubeError:
            if time.monotonic() > give_up:
                return False
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RETRY_MAX)
        else:
            return True
