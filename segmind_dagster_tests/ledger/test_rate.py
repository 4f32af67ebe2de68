"""The account's rate: never above the bound, cut once per burst of refusals, and grown back afterwards."""

from __future__ import annotations

import math
from bisect import bisect_left
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_book import NOON, ORIGIN
from sqlalchemy import delete

from segmind_dagster.ledger import open_ledger, rate
from segmind_dagster.ledger.schema import RATE_LIMIT

if TYPE_CHECKING:
    from segmind_dagster.ledger import Ledger

MINUTE = timedelta(minutes=1)
per_test = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
# rates whose spacing is a whole number of microseconds
bounds = st.sampled_from([0.5, 1, 5, 7.5, 10, 50, 60, 120, 500, 1000])


def reserve(ledger: Ledger, count: int = 1, per_minute: float = 60, now: datetime = NOON) -> list[datetime]:
    return ledger.write(rate.reserve_slots, count=count, per_minute=per_minute, now=now)


def cut(ledger: Ledger, now: datetime = NOON, per_minute: float = 60, reset_s: float = 0) -> None:
    ledger.write(rate.cut_rate, reset_at=now + timedelta(seconds=reset_s), per_minute=per_minute, now=now)


def forget(ledger: Ledger) -> None:
    ledger.write(lambda connection: connection.execute(delete(RATE_LIMIT)))


def spacing_s(ledger: Ledger, now: datetime, per_minute: float = 60) -> float:
    """Seconds between two slots handed out now."""
    first, second = reserve(ledger, 2, per_minute, now)
    return (second - first).total_seconds()


def most_in_a_minute(slots: list[datetime]) -> int:
    ordered = sorted(slots)
    return max(bisect_left(ordered, start + MINUTE) - index for index, start in enumerate(ordered))


@given(bound=bounds, calls=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 40)), min_size=1, max_size=12))
@per_test
def test_no_minute_holds_more_slots_than_the_bound_whoever_asks_and_when(
    ledger: Ledger, bound: float, calls: list[tuple[float, int]]
) -> None:
    forget(ledger)
    now = NOON
    slots: list[datetime] = []
    for pause_s, count in calls:
        now += timedelta(seconds=pause_s)
        given_out = reserve(ledger, count, bound, now)
        assert all(slot >= now for slot in given_out)
        slots += given_out
    assert len(set(slots)) == len(slots)
    assert most_in_a_minute(slots) <= math.ceil(bound)


@given(
    bound=bounds,
    calls=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 20), st.booleans()), min_size=1, max_size=12),
)
@per_test
def test_refusals_never_raise_the_rate_above_the_bound(
    ledger: Ledger, bound: float, calls: list[tuple[float, int, bool]]
) -> None:
    forget(ledger)
    now = NOON
    slots: list[datetime] = []
    for pause_s, count, is_refused in calls:
        now += timedelta(seconds=pause_s)
        if is_refused:
            cut(ledger, now, bound, reset_s=10)
            assert all(slot >= now + timedelta(seconds=10) for slot in reserve(ledger, 0, bound, now))
        slots += reserve(ledger, count, bound, now)
    assert not slots or most_in_a_minute(slots) <= math.ceil(bound)


def test_slots_are_evenly_spaced_and_the_first_is_now(ledger: Ledger) -> None:
    assert reserve(ledger, 3, 30) == [NOON, NOON + timedelta(seconds=2), NOON + timedelta(seconds=4)]
    assert reserve(ledger, 1, 30) == [NOON + timedelta(seconds=6)]


def test_time_that_nobody_used_is_not_saved_up(ledger: Ledger) -> None:
    reserve(ledger, 1)
    later = NOON + timedelta(hours=1)
    assert reserve(ledger, 2, 60, later) == [later, later + timedelta(seconds=1)]


def test_asking_for_no_slot_takes_none(ledger: Ledger) -> None:
    assert reserve(ledger, 0) == []
    assert reserve(ledger, 1) == [NOON]


def test_after_a_refusal_nobody_sends_before_the_reset(ledger: Ledger) -> None:
    reserve(ledger, 2)
    cut(ledger, reset_s=20)
    assert reserve(ledger, 1) == [NOON + timedelta(seconds=20)]


def test_a_reset_in_the_past_does_not_give_slots_twice(ledger: Ledger) -> None:
    taken = reserve(ledger, 5)
    cut(ledger, reset_s=-60)
    assert reserve(ledger, 1)[0] > max(taken)


def test_a_burst_of_refusals_cuts_the_rate_once(ledger: Ledger) -> None:
    for after_s in (0, 1, 5, 59):
        cut(ledger, NOON + timedelta(seconds=after_s))
    # cut twice, it could not have grown back this far within a minute
    assert 1 / 0.7 / 1.1 <= spacing_s(ledger, NOON + timedelta(seconds=59.5)) <= 1 / 0.7


def test_the_next_burst_cuts_again(ledger: Ledger) -> None:
    cut(ledger)
    cut(ledger, NOON + MINUTE)
    assert spacing_s(ledger, NOON + MINUTE) > 1.2 / 0.7


def test_the_rate_grows_back_to_its_bound_and_not_beyond(ledger: Ledger) -> None:
    cut(ledger)
    spacings = [spacing_s(ledger, NOON + minutes * MINUTE) for minutes in range(1, 8)]
    assert spacings == sorted(spacings, reverse=True)
    assert spacings[0] > spacings[2] > 1
    assert spacings[-1] == 1


def test_the_rate_is_never_cut_to_nothing(ledger: Ledger) -> None:
    for minutes in range(200):
        cut(ledger, NOON + minutes * MINUTE)
    assert spacing_s(ledger, NOON + 200 * MINUTE) <= 60


def test_a_bound_that_was_lowered_holds_at_once_and_one_that_was_raised_too(ledger: Ledger) -> None:
    reserve(ledger, 1, 60)
    assert spacing_s(ledger, NOON, 6) == 10
    assert spacing_s(ledger, NOON, 600) == 0.1


def test_two_processes_share_one_rate(ledger: Ledger) -> None:
    other = open_ledger(str(ledger.engine.url), api_origin=ORIGIN, holds_outputs=lambda: None)
    slots = [slot for _ in range(10) for each in (ledger, other) for slot in reserve(each)]
    other.close()
    assert slots == [NOON + timedelta(seconds=number) for number in range(20)]
