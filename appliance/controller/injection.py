"""``spec.runtimes``: what is put into a pod that its template does not have itself.

``agent-runtime`` gives the main container the runtime, as a template does by hand: a sidecar that places it, a volume
that both share, and the variable that names the volume. A template that has the variable already is left as it is. The
other names of the existing system (``csi``, ``traffic-proxy``, keys of an injection ConfigMap) do not exist here, and
are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from appliance.api import labels
from appliance.api.structs import RuntimeRef
from appliance.claims.updating import MAIN_CONTAINER
from appliance.controller.revision import TemplateProblem, unknown_runtime

VOLUME = "agent-runtime-volume"
PLACE = "/mnt/agent-runtime"
BOX_IMAGE = "appliance"
"""Image of the sidecar where no other is set; the box's node has the runtime itself and runs nothing for it."""


def inject(spec: dict[str, Any], runtimes: Sequence[RuntimeRef], image: str | None) -> None:
    """Add what is asked for to a pod's spec, in place. Raises TemplateProblem naming the entry that does not exist."""
    if problem := unknown_runtime(runtimes):
        raise TemplateProblem(problem)
    containers = spec.get("containers") or []
    if not runtimes or not containers or any(map(has_workspace, containers)):
        return
    main = next((item for item in containers if item.get("name") == MAIN_CONTAINER), containers[0])
    env = [{"name": labels.WORKSPACE_ENV, "value": PLACE}]
    mounts = [{"name": VOLUME, "mountPath": PLACE}]
    main["env"] = [*(main.get("env") or []), *env]
    main["volumeMounts"] = [*(main.get("volumeMounts") or []), *mounts]
    sidecar = {"name": labels.AGENT_RUNTIME, "image": image or BOX_IMAGE, "restartPolicy": "Always"}
    spec["initContainers"] = [*(spec.get("initContainers") or []), {**sidecar, "env": env, "volumeMounts": mounts}]
    spec["volumes"] = [*(spec.get("volumes") or []), {"name": VOLUME, "emptyDir": {}}]


def has_workspace(container: Mapping[str, Any]) -> bool:
    """Whether a container asks for the runtime itself."""
    return any(variable.get("name") == labels.WORKSPACE_ENV for variable in container.get("env") or [])
