"""What has to be asked before an action changes the cluster, and what it will do then, in words.

Pure but for ``do``, which is one of ``writes``: questions, defaults and previews are functions of the rows on screen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.kube.cluster import Cluster
from tui.act import writes
from tui.act.upgrade import image_name, upgrade
from tui.model.pools import PoolRow
from tui.view.cells import per_second, span

Do = Callable[[Cluster, Any, str, float], Awaitable[str]]


@dataclass(frozen=True)
class Deed:
    """How one action is carried out on rows."""

    do: Do
    prompt: Callable[[Sequence[Any]], str] | None = None
    """Asks for an argument when none was given."""
    default: Callable[[Sequence[Any]], str] = lambda rows: ""
    preview: Callable[[Sequence[Any], str], str] = lambda rows, argument: ""
    """What will happen, said while the argument is typed; raises Refused for one that will not do."""
    confirm: Callable[[Sequence[Any]], tuple[str, str]] | None = None
    """Question and consequence of a dialog whose default is Cancel."""
    typed: bool = False
    """The dialog asks for the name to be typed."""


def names(rows: Sequence[Any]) -> str:
    """The objects in words: one by name, several by number and the first names."""
    if len(rows) == 1:
        return str(rows[0].key[1])
    shown = ", ".join(row.key[1] for row in rows[:3])
    return f"{len(rows)} ({shown}{f' and {len(rows) - 3} more' if len(rows) > 3 else ''})"


def _kill(rows: Sequence[Any]) -> tuple[str, str]:
    claimed = sum(1 for row in rows if not row.member)
    members = len(rows) - claimed
    parts = []
    if claimed:
        parts.append(f"{_they(claimed, rows)} in use: work inside is lost")
    if members:
        parts.append(f"{_they(members, rows)} in a pool, which makes {'another' if members == 1 else 'new ones'}")
    question = f"Kill sandbox {names(rows)}?" if len(rows) == 1 else f"Kill sandboxes: {names(rows)}?"
    return question, "; ".join(parts) + "."


def _they(count: int, rows: Sequence[Any]) -> str:
    return "It is" if len(rows) == 1 else f"{count} {'is' if count == 1 else 'are'}"


def _drop(rows: Sequence[Any]) -> tuple[str, str]:
    if isinstance(rows[0], PoolRow):
        members = sum(row.available + row.creating for row in rows)
        return f"Delete pool {names(rows)}?", f"Its {members} unclaimed sandboxes are deleted; claimed ones live on."
    return f"Delete claim {names(rows)}?", "Its record goes; sandboxes it delivered live on until their timeout."


def scale_preview(rows: Sequence[PoolRow], argument: str) -> str:
    """What scaling will do to each pool, as far as the numbers tell."""
    said = []
    for row in rows:
        wanted = writes.replicas(argument, row)
        have = row.available + row.creating
        if wanted > have:
            pace = f", at {per_second(row.refill)} lately" if row.refill else ""
            said.append(f"{row.key[1]}: {wanted - have} more are made{pace}")
        elif wanted < have:
            gone = min(have - wanted, row.available)
            said.append(f"{row.key[1]}: {have - wanted} are deleted ({gone} of them ready)")
        else:
            said.append(f"{row.key[1]}: nothing changes")
        if wanted == 0:
            said.append("claims will wait for cold starts")
    return "; ".join(said)


def _extend_preview(rows: Sequence[Any], argument: str) -> str:
    by = writes.duration(argument)
    return f"{names(rows)}: what its timers bring (pause, end) comes {span(by.total_seconds())} later"


DEEDS: dict[str, Deed] = {
    "kill": Deed(writes.kill, confirm=_kill),
    "drop": Deed(writes.drop, confirm=_drop, typed=True),
    "forget": Deed(writes.drop, confirm=_drop),
    "pause": Deed(writes.pause),
    "resume": Deed(writes.resume),
    "extend": Deed(
        writes.extend,
        prompt=lambda rows: f"Extend the timeout of {names(rows)} by",
        default=lambda rows: "5m",
        preview=_extend_preview,
    ),
    "scale": Deed(
        writes.scale,
        prompt=lambda rows: f"Scale {names(rows)} to",
        default=lambda rows: str(rows[0].desired),
        preview=scale_preview,
    ),
    "image": Deed(
        writes.image,
        prompt=lambda rows: f"New image of {names(rows)}",
        preview=lambda rows, argument: (
            f"a new revision with {image_name(argument)}; members are replaced a few at a time"
        ),
    ),
    "upgrade": Deed(
        upgrade,
        prompt=lambda rows: f"New image of {names(rows)}",
        preview=lambda rows, argument: (
            f"the container starts anew with {image_name(argument)}: processes end, volumes stay"
        ),
    ),
    "restart": Deed(
        writes.restart,
        confirm=lambda rows: (f"Renew all members of {names(rows)}?", "They are replaced a few at a time."),
    ),
    "claim": Deed(writes.claim),
}
"""By action name."""
