"""Instants and durations as Kubernetes writes them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from appliance.api import times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.123456Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2026-01-02T03:04:05.123456789Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2026-01-02T05:04:05+02:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ],
)
def test_instants_are_read_in_every_form_kubernetes_writes(text: str, expected: datetime) -> None:
    """Seconds, micro- and nanoseconds, and offsets all come out as the same aware UTC instant."""
    assert times.parse(text) == expected
    assert times.parse(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z"])
def test_what_is_no_instant_is_refused_or_absent(text: str) -> None:
    """parse raises, parse_or_none answers None, for nonsense and for instants without an offset."""
    with pytest.raises(ValueError):
        times.parse(text)
    assert times.parse_or_none(text) is None


def test_instants_are_written_in_utc_with_the_wanted_precision() -> None:
    """Seconds are cut off as metav1.Time does; micro keeps six decimals; naive datetimes are refused."""
    instant = datetime(2026, 1, 2, 5, 4, 5, 999999, tzinfo=timezone(timedelta(hours=2)))
    assert times.format(instant) == "2026-01-02T03:04:05Z"
    assert times.format(instant, micro=True) == "2026-01-02T03:04:05.999999Z"
    with pytest.raises(ValueError, match="aware"):
        times.format(datetime(2026, 1, 2))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("1m", 60),
        ("60m", 3600),
        ("1h30m", 5400),
        ("-1s", -1),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("+2m0.5s", 120.5),
    ],
)
def test_go_durations_are_read(text: str, seconds: float) -> None:
    """Units, fractions, sums and signs mean what Go says."""
    assert times.parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "-", "60", "1d", "1 m", "m", "1m junk", "1e3s", "999999999999999h"])
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    """Missing or unknown units, rests and overflows raise ValueError that shows the text."""
    with pytest.raises(ValueError, match="duration"):
        times.parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "1s", "1m0s", "1h0m0s", "1h30m0s", "1.5s", "-1m0s", "0.25s", "100h0m0.000001s"])
def test_durations_are_written_as_go_does(text: str) -> None:
    """Writing what was read gives Go's canonical form back."""
    assert times.format_duration(times.parse_duration(text)) == text
