"""``appliance install --diff``: what applying would change, asked of the cluster itself by dry runs.

The server answers with the object as it would be, defaults and all, so only real changes are shown. Secrets show
that they change, never what they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from appliance.config import KubeSettings
from appliance.install.apply import MANAGER, explained
from appliance.install.command import manifests
from appliance.install.comparing import compared
from appliance.install.resources import label, place_of
from appliance.kube.cluster import Cluster
from appliance.kube.errors import ApiError, NotFound


async def diff(settings: KubeSettings, values: Mapping[str, Any], say: Callable[[str], None]) -> int:
    """Print unified diffs; returns how many objects would change.

    Raises:
        RuntimeError: the server refuses an object, named.
        KubeError: the cluster does not answer.
    """
    changes = 0
    async with await Cluster.connect(settings) as cluster:
        for document in manifests(values):
            try:
                before, after = await _states(cluster, document)
            except ApiError as error:
                raise RuntimeError(f"{label(document)}: {explained(error)}") from error
            if lines := compared(before, after, label(document)):
                changes += 1
                say("\n".join(lines))
    return changes


async def _states(cluster: Cluster, document: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    kind, namespace, name = place_of(document)
    try:
        live = await cluster.get(kind, namespace, name, type=dict[str, Any])
    except NotFound:
        return None, document  # and whatever it lies in may not be there either: nothing to ask
    made = await cluster.apply(
        kind, namespace, name, document, manager=MANAGER, force=True, dry_run=True, type=dict[str, Any]
    )
    return live, made
