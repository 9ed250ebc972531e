"""How a sandbox is paused: with its memory (Freeze), without it (Halt), or without anything but volumes (Stop).

Without an explicit strategy a sandbox keeps as much as its place allows: frozen where the node has a freezer or the pod
our runtime, which can stop every process but itself; stopped elsewhere. ``persistentContents: [filesystem]``, or the
API's ``memory: false``, keeps the files and ends the processes, which only nodes can that keep a pod's writable layer.
What cannot be kept as asked is refused in words, never silently done differently.
"""

from __future__ import annotations

from enum import StrEnum

from appliance.api.labels import PAUSE_CONTENTS
from appliance.api.structs import Sandbox, SandboxSpec

_FILES = "filesystem"


class PauseKind(StrEnum):
    """What happens to the pod."""

    FREEZE = "Freeze"
    STOP = "Stop"
    HALT = "Halt"
    """The pod stays, its processes end, its files are kept."""


class Unpausable(Exception):
    """The sandbox asks for a pause that does not exist here; the message names the field."""


def files_only(sandbox: Sandbox) -> bool:
    """Whether whoever paused it asked for the files alone."""
    return sandbox.meta.annotations.get(PAUSE_CONTENTS) == _FILES


def pause_kind(spec: SandboxSpec, *, freezer: bool, keeps_files: bool = False, files: bool = False) -> PauseKind:
    """The strategy that applies. Raises Unpausable.

    ``freezer``: the pod's node, or the runtime in it, can freeze it; ``keeps_files``: the node can end processes and
    keep files; ``files``: files alone are asked for, whatever the spec says.
    """
    asked, contents = spec.pause_strategy.type if spec.pause_strategy is not None else "", set(spec.persistent_contents)
    if asked not in ("", PauseKind.FREEZE, PauseKind.STOP):
        raise Unpausable(f"spec.pauseStrategy.type: expected Freeze or Stop, got {asked!r} (not supported here)")
    if asked == PauseKind.STOP and "memory" in contents:
        raise Unpausable("spec.persistentContents: memory cannot be kept with spec.pauseStrategy.type Stop")
    if files:
        return _halt(keeps_files, "a pause that keeps files without memory")
    if asked == PauseKind.FREEZE or "memory" in contents:
        return PauseKind.FREEZE
    if _FILES in contents:
        return _halt(keeps_files, "spec.persistentContents: filesystem without memory")
    return PauseKind.FREEZE if freezer and not asked else PauseKind.STOP


def _halt(able: bool, what: str) -> PauseKind:
    if not able:
        raise Unpausable(f"{what}: the sandbox's node cannot end processes and keep files; only the one-box node can")
    return PauseKind.HALT
