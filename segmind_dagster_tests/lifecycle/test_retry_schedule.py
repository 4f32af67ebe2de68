"""Pauses grow, end, and never come out shorter than what went before, whatever the counts and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.lifecycle.failures import PAID_KINDS, POLICIES
from segmind_dagster.lifecycle.next_step import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    MOST_RUNS,
    RETRYABLE,
    UNCOUNTED,
    next_run,
    pause_after,
)

moments = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001  hypothesis adds the zone
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@pytest.mark.parametrize(
    ("runs", "minutes"), [(0, 5), (1, 5), (2, 10), (3, 20), (4, 40), (5, 80), (7, 320), (8, 360), (10**9, 360)]
)
def test_the_pause_doubles_up_to_six_hours(runs: int, minutes: int) -> None:
    assert pause_after(runs) == timedelta(minutes=minutes)


@given(runs=st.integers(min_value=0, max_value=10**6), first=st.timedeltas(timedelta(0), timedelta(days=1)))
def test_a_later_pause_is_never_shorter_and_always_bounded(runs: int, first: timedelta) -> None:
    assert first <= pause_after(runs, first=first) <= pause_after(runs + 1, first=first) <= max(first, LONGEST_PAUSE)


@given(runs=st.integers(min_value=0, max_value=100), last_at=moments)
def test_retries_are_bounded(runs: int, last_at: datetime) -> None:
    next_at = next_run(runs, last_at)
    assert (next_at is None) is (runs >= MOST_RUNS)
    assert next_at is None or next_at >= last_at + FIRST_PAUSE


def test_every_failure_kind_is_in_exactly_one_group() -> None:
    permanent = {kind for kind, policy in POLICIES.items() if policy.is_permanent}
    ways = [RETRYABLE, UNCOUNTED, PAID_KINDS, permanent, {"unknown_outcome"}]
    assert set().union(*ways) == set(POLICIES)
    assert sum(map(len, ways)) == len(POLICIES)
