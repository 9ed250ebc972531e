"""Fields of a pod's manifest that this node does not carry out: named, so that nothing is silently ignored.

Pure. A pod with such fields runs all the same (manifests written for real clusters set many of them for good measure);
its condition ``CONDITION_MANIFEST`` and an event name them. What would change what a pod *does* is refused by
``podspec`` instead.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
_POD = (
    "activeDeadlineSeconds", "dnsConfig", "hostAliases", "hostIPC", "hostNetwork", "hostPID", "runtimeClassName",
    "shareProcessNamespace",
)  # fmt: skip
_CONTAINER = ("stdin", "tty", "volumeDevices")
_HONOURED_SECURITY = ("runAsUser", "runAsGroup")
"""Of a container's securityContext; nothing of a pod's is."""


def unhonoured(pod: Json) -> list[str]:
    """Paths of the fields that are set and have no effect here."""
    spec = pod["spec"]
    found = [f"spec.{name}" for name in _POD if spec.get(name)]
    found += [f"spec.securityContext.{name}" for name in _set(spec.get("securityContext"))]
    for kind in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(kind) or []):
            path = f"spec.{kind}[{number}]"
            found += [f"{path}.{name}" for name in _CONTAINER if container.get(name)]
            names = _set(container.get("securityContext"))
            found += [f"{path}.securityContext.{name}" for name in names if name not in _HONOURED_SECURITY]
    return found


def _set(context: Json | None) -> list[str]:
    return sorted(name for name, value in (context or {}).items() if value not in (None, {}, []))
