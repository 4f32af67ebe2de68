"""Pauses grow, end, and never come out shorter than what went before, whatever the counts and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.gateway.failures import PAID_KINDS, POLICIES
from segmind_dagster.planning.due import (
    FIRST_LOOK,
    FIRST_PAUSE,
    KEPT,
    LONGEST_PAUSE,
    MOST_RUNS,
    RETRYABLE,
    UNCOUNTED,
    next_look,
    next_run,
    pause_after,
)

moments = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001  hypothesis adds the zone
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
spans = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=30))
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("runs", "minutes"), [(0, 5), (1, 5), (2, 10), (3, 20), (4, 40), (5, 80), (7, 320), (8, 360), (10**9, 360)]
)
def test_the_pause_doubles_up_to_six_hours(runs: int, minutes: int) -> None:
    assert pause_after(runs) == timedelta(minutes=minutes)


@given(runs=st.integers(min_value=0, max_value=10**6), first=st.timedeltas(timedelta(0), timedelta(days=1)))
def test_a_later_pause_is_never_shorter_and_always_bounded(runs: int, first: timedelta) -> None:
    assert first <= pause_after(runs, first=first) <= pause_after(runs + 1, first=first) <= max(first, LONGEST_PAUSE)


@given(runs=st.integers(min_value=0, max_value=100), last_at=moments)
def test_runs_come_to_an_end(runs: int, last_at: datetime) -> None:
    due = next_run(runs, last_at)
    assert (due is None) is (runs >= MOST_RUNS)
    assert due is None or due >= last_at + FIRST_PAUSE


@given(paid_at=moments, waited=spans)
def test_a_look_is_never_at_once_and_never_after_the_provider_has_forgotten(
    paid_at: datetime, waited: timedelta
) -> None:
    due = next_look(paid_at, paid_at + waited)
    if due is not None:
        assert paid_at + waited + FIRST_LOOK <= due <= paid_at + KEPT


@given(paid_at=moments, tick=st.timedeltas(timedelta(0), timedelta(minutes=5)))
def test_looks_are_few_however_often_somebody_asks(paid_at: datetime, tick: timedelta) -> None:
    looks, looked_at = 0, paid_at
    while (due := next_look(paid_at, looked_at)) is not None:
        looks, looked_at = looks + 1, due + tick
    assert 8 <= looks <= 15


def test_the_first_look_is_after_a_minute_and_each_wait_as_long_as_all_before() -> None:
    assert next_look(NOON, NOON) == NOON + FIRST_LOOK
    assert next_look(NOON, NOON + timedelta(hours=3)) == NOON + timedelta(hours=6)
    assert next_look(NOON, NOON + timedelta(days=4)) is None


def test_a_clock_that_went_backwards_only_makes_it_wait_the_shortest_time() -> None:
    assert next_look(NOON, NOON - timedelta(hours=1)) == NOON - timedelta(hours=1) + FIRST_LOOK


def test_every_kind_has_one_way_to_go_on() -> None:
    permanent = {kind for kind, policy in POLICIES.items() if policy.is_permanent}
    ways = [RETRYABLE, UNCOUNTED, PAID_KINDS, permanent, {"unknown_outcome"}]
    assert set().union(*ways) == set(POLICIES)
    assert sum(map(len, ways)) == len(POLICIES)
