"""Positions in a recording as an operator types them."""

from __future__ import annotations

from datetime import UTC, datetime

from tui.feed.replay import Player


def position(words: str, player: Player) -> float:
    """``50%`` of it, ``+30`` or ``-30`` seconds from here, or the time of day ``12:34:56`` (UTC) in it.

    Raises ValueError for anything else.
    """
    words = words.strip()
    try:
        if words.endswith("%"):
            return player.start + (player.end - player.start) * float(words[:-1]) / 100
        if words[:1] in "+-" and words:
            return player.now() + float(words)
        day = datetime.fromtimestamp(player.start, UTC)
        at = datetime.strptime(words, "%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"expected 50%, +30, -30 or HH:MM:SS, got {words!r}") from None
    found = day.replace(hour=at.hour, minute=at.minute, second=at.second).timestamp()
    return found if found >= player.start - 1 else found + 86400
