"""Times as the wire spells them: ISO 8601 in UTC with milliseconds, and calendar days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def iso_utc(epoch_s: float) -> str:
    """`2026-01-02T03:04:05.678Z`."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day_start(day: str) -> float:
    """Start of a UTC day given as `YYYY-MM-DD`, in epoch seconds.

    Raises:
        ValueError: not a date of that form.
    """
    return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()


def utc_day(epoch_s: float, *, days_back: int = 0) -> str:
    """The UTC day of a moment, or one some days before it, as `YYYY-MM-DD`."""
    return (datetime.fromtimestamp(epoch_s, UTC) - timedelta(days=days_back)).strftime("%Y-%m-%d")
