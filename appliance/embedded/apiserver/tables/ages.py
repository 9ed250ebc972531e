"""Durations as kubectl prints them: ``5s``, ``3m12s``, ``4h``, ``12d``, ``2y101d``."""

from __future__ import annotations

from datetime import UTC, datetime


def age(timestamp: str | None, now: datetime | None = None) -> str:
    """Time since an RFC 3339 instant; ``<unknown>`` without one, ``<invalid>`` for the far future."""
    if not timestamp:
        return "<unknown>"
    try:
        then = datetime.fromisoformat(timestamp)
    except ValueError:
        return "<unknown>"
    return human((now or datetime.now(UTC)).timestamp() - then.timestamp())


def human(seconds: float) -> str:
    """A duration with at most two units, fewer as it grows."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(whole, 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m" + (f"{whole % 60}s" if whole % 60 else "")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h" + (f"{minutes % 60}m" if minutes % 60 else "")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d" + (f"{hours % 24}h" if hours % 24 else "")
    if days < 730:
        return f"{days}d"
    years = days // 365
    return f"{years}y{days % 365}d" if years < 8 and days % 365 else f"{years}y"
