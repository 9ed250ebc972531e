"""How a sandbox is paused: with its memory (Freeze) or without (Stop).

Without an explicit strategy a sandbox keeps as much as its place allows: frozen where the node has a freezer, stopped
elsewhere. What cannot be kept as asked is refused in words, never silently done differently.
"""

from __future__ import annotations

from enum import StrEnum

from appliance.api.structs import SandboxSpec


class PauseKind(StrEnum):
    """What happens to the pod."""

    FREEZE = "Freeze"
    STOP = "Stop"


class Unpausable(Exception):
    """The sandbox asks for a pause that does not exist here; the message names the field."""


def pause_kind(spec: SandboxSpec, *, freezer: bool) -> PauseKind:
    """The strategy that applies; ``freezer``: the pod's node can freeze cgroups. Raises Unpausable."""
    asked = spec.pause_strategy.type if spec.pause_strategy is not None else ""
    if asked == PauseKind.FREEZE:
        return PauseKind.FREEZE
    if asked == PauseKind.STOP:
        if "memory" in spec.persistent_contents:
            raise Unpausable("spec.persistentContents: memory cannot be kept with spec.pauseStrategy.type Stop")
        return PauseKind.STOP
    if asked:
        raise Unpausable(f"spec.pauseStrategy.type: expected Freeze or Stop, got {asked!r} (not supported here)")
    if freezer or {"memory", "filesystem"} & set(spec.persistent_contents):
        return PauseKind.FREEZE
    return PauseKind.STOP
