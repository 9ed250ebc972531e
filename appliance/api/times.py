"""Instants and durations as Kubernetes writes them: RFC 3339 in UTC, and Go duration strings."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TERM = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def now() -> datetime:
    """The present, aware, in UTC."""
    return datetime.now(UTC)


def parse(text: str) -> datetime:
    """An RFC 3339 instant as an aware datetime in UTC.

    Raises ValueError when ``text`` is no RFC 3339 instant or has no offset.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"expected an RFC 3339 instant with an offset, got {text!r}")
    return instant.astimezone(UTC)


def parse_or_none(text: str | None) -> datetime | None:
    """``parse``, with None for an absent or unreadable instant: for readers of objects somebody else wrote."""
    if not text:
        return None
    try:
        return parse(text)
    except ValueError:
        return None


def format(instant: datetime, micro: bool = False) -> str:  # noqa: A001 - read as times.format
    """The instant in UTC as ``2026-01-02T03:04:05Z``, with six decimals when ``micro``.

    Without ``micro`` the fraction is cut off, as metav1.Time does. Raises ValueError for a naive datetime.
    """
    if instant.tzinfo is None:
        raise ValueError("instant: expected an aware datetime, got a naive one")
    utc = instant.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat(timespec="microseconds" if micro else "seconds") + "Z"


def parse_duration(text: str) -> timedelta:
    """A Go duration such as ``1h30m``, ``1.5s``, ``-1m`` or ``0``.

    Raises ValueError for anything else, and for what a timedelta cannot hold.
    """
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return timedelta(0)
    terms = _TERM.findall(rest)
    if not rest or "".join(number + unit for number, unit in terms) != rest:
        raise ValueError(f"expected a duration such as 90s, 30m or 1h30m, got {text!r}")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in terms)
    try:
        return timedelta(seconds=sign * seconds)
    except OverflowError as error:
        raise ValueError(f"duration out of range: {text!r}") from error


def format_duration(duration: timedelta) -> str:
    """The duration as Go prints it, to the microsecond: ``1h30m0s``, ``1.5s``, ``0s``, ``-1m0s``."""
    micros = round(duration / timedelta(microseconds=1))
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    seconds, fraction = divmod(micros, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f"{seconds}.{fraction:06d}".rstrip("0") if fraction else str(seconds)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{tail}s"
