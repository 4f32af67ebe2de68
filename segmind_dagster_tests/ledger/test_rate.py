"""The account's rate: never above the bound, cut once per burst of refusals, and grown back afterwards."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.ledger import NOON, ORIGIN, Book
from sqlalchemy import delete

from segmind_dagster.ledger import open_ledger, rate
from segmind_dagster.ledger.schema import RATE_LIMIT

if TYPE_CHECKING:
    from segmind_dagster.ledger import Ledger

MINUTE = timedelta(minutes=1)
CATCH_UP = timedelta(seconds=0.25)
# requests are sent a hundredth below the bound
SECOND = 1 / 0.99
# rates whose spacing is a whole number of microseconds
bounds = st.sampled_from([0.5, 1, 5, 7.5, 10, 50, 60, 120, 500, 1000])


def reserve(ledger: Ledger, count: int = 1, per_minute: float = 60, now: datetime = NOON) -> list[datetime]:
    return ledger.write(rate.reserve_requests, count=count, per_minute=per_minute, now=now)


def cut(ledger: Ledger, now: datetime = NOON, per_minute: float = 60, reset_s: float = 0) -> None:
    ledger.write(rate.cut_rate, reset_at=now + timedelta(seconds=reset_s), per_minute=per_minute, now=now)


def seconds(send_times: list[datetime]) -> list[float]:
    return [(send_time - NOON).total_seconds() for send_time in send_times]


def forget(ledger: Ledger) -> None:
    ledger.write(lambda connection: connection.execute(delete(RATE_LIMIT)))


def spacing_s(ledger: Ledger, now: datetime, per_minute: float = 60) -> float:
    """Seconds between two send times reserved now."""
    first, second = reserve(ledger, 2, per_minute, now)
    return (second - first).total_seconds()


def most_in_a_minute(send_times: list[datetime]) -> int:
    ordered = sorted(send_times)
    return max(bisect_left(ordered, start + MINUTE) - index for index, start in enumerate(ordered))


@given(bound=bounds, calls=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 40)), min_size=1, max_size=12))
def test_no_minute_has_more_send_times_than_the_bound(
    ledger: Ledger, bound: float, calls: list[tuple[float, int]]
) -> None:
    forget(ledger)
    now = NOON
    send_times: list[datetime] = []
    for pause_s, count in calls:
        now += timedelta(seconds=pause_s)
        given_out = reserve(ledger, count, bound, now)
        assert all(send_time >= now - CATCH_UP for send_time in given_out)
        send_times += given_out
    assert len(set(send_times)) == len(send_times)
    assert most_in_a_minute(send_times) <= math.ceil(bound)


@given(
    bound=bounds,
    calls=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 20), st.booleans()), min_size=1, max_size=12),
)
def test_a_429_never_raises_the_rate_above_the_bound(
    ledger: Ledger, bound: float, calls: list[tuple[float, int, bool]]
) -> None:
    forget(ledger)
    now = NOON
    send_times: list[datetime] = []
    for pause_s, count, is_refused in calls:
        now += timedelta(seconds=pause_s)
        if is_refused:
            cut(ledger, now, bound, reset_s=10)
            assert all(send_time >= now + timedelta(seconds=10) for send_time in reserve(ledger, 0, bound, now))
        send_times += reserve(ledger, count, bound, now)
    assert not send_times or most_in_a_minute(send_times) <= math.ceil(bound)


def test_send_times_are_evenly_spaced_and_the_first_is_now(ledger: Ledger) -> None:
    given_out = [*reserve(ledger, 3, 30), *reserve(ledger, 1, 30)]
    assert seconds(given_out) == pytest.approx([0, 2 * SECOND, 4 * SECOND, 6 * SECOND], abs=1e-5)


def test_at_most_a_quarter_second_of_unused_time_is_caught_up(ledger: Ledger) -> None:
    reserve(ledger, 1)
    later = NOON + timedelta(hours=1)
    assert seconds(reserve(ledger, 2, 60, later)) == pytest.approx([3600 - 0.25, 3600 - 0.25 + SECOND], abs=1e-5)


def test_a_slightly_late_reservation_loses_no_request(ledger: Ledger) -> None:
    """Each batch of send times is reserved some milliseconds after the last one was used up."""
    now, send_times = NOON, list[datetime]()
    while now < NOON + MINUTE:
        send_times += reserve(ledger, 10, 600, now)
        now = send_times[-1] + timedelta(seconds=SECOND / 10 + 0.02)
    assert len([send_time for send_time in send_times if send_time < NOON + MINUTE]) >= 0.98 * 600


@given(bound=st.sampled_from([5, 60, 120, 1000]), phase_s=st.floats(0, 60), delays=st.integers(0, 300))
def test_slow_requests_never_exceed_a_fixed_window_of_the_provider(
    ledger: Ledger, bound: int, phase_s: float, delays: int
) -> None:
    forget(ledger)
    chance = Random(delays)
    arrived = [
        (send_time - NOON).total_seconds() + phase_s + chance.uniform(0, 0.3)
        for send_time in reserve(ledger, 3 * bound, bound)
    ]
    windows = Counter(int(moment // 60) for moment in arrived)
    assert max(windows.values()) <= bound


def test_reserving_zero_send_times_takes_none(ledger: Ledger) -> None:
    assert reserve(ledger, 0) == []
    assert reserve(ledger, 1) == [NOON]


def test_after_a_429_no_send_time_is_before_the_reset(ledger: Ledger) -> None:
    reserve(ledger, 2)
    cut(ledger, reset_s=20)
    assert reserve(ledger, 1) == [NOON + timedelta(seconds=20)]


def test_a_reset_in_the_past_does_not_repeat_send_times(ledger: Ledger) -> None:
    taken = reserve(ledger, 5)
    cut(ledger, reset_s=-60)
    assert reserve(ledger, 1)[0] > max(taken)


def test_a_burst_of_429s_cuts_the_shared_rate_once(ledger: Ledger) -> None:
    for after_s in (0, 1, 5, 59):
        cut(ledger, NOON + timedelta(seconds=after_s), reset_s=60 - after_s)
    assert spacing_s(ledger, NOON + timedelta(seconds=59.5)) == pytest.approx(2 * SECOND, abs=1e-5)


def test_the_next_burst_of_429s_cuts_again(ledger: Ledger) -> None:
    cut(ledger)
    cut(ledger, NOON + MINUTE)
    assert spacing_s(ledger, NOON + MINUTE) == pytest.approx(4 * SECOND, abs=1e-5)


def test_a_429_cuts_to_what_was_accepted_in_that_window(ledger: Ledger) -> None:
    book = Book(ledger)
    for number in range(90):
        book.plan(f"g{number}")
        held = book.claim(f"g{number}", now=NOON + timedelta(seconds=number / 2))
        if number >= 80:
            book.failed(held, target="planned", failure_kind="rate_limited")
    now = NOON + timedelta(seconds=45)
    cut(ledger, now, per_minute=120, reset_s=15)
    assert spacing_s(ledger, now, 120) == pytest.approx(60 / 80 * SECOND, abs=1e-5)
    assert ledger.read(rate.current_rate, per_minute=120, now=now) == 80


def test_a_cut_rate_stays_and_then_grows_back_to_its_bound(ledger: Ledger) -> None:
    cut(ledger)
    spacings = [spacing_s(ledger, NOON + minutes * MINUTE) for minutes in range(1, 40)]
    assert spacings == sorted(spacings, reverse=True)
    assert spacings[0] == spacings[2] > spacings[4] > SECOND
    assert spacings[-1] == pytest.approx(SECOND, abs=1e-5)


def test_the_rate_is_never_cut_to_zero(ledger: Ledger) -> None:
    for minutes in range(200):
        cut(ledger, NOON + minutes * MINUTE)
    assert spacing_s(ledger, NOON + 200 * MINUTE) <= 60 * SECOND + 1e-5


def test_a_changed_bound_applies_at_once(ledger: Ledger) -> None:
    reserve(ledger, 1, 60)
    assert spacing_s(ledger, NOON, 6) == pytest.approx(10 * SECOND, abs=1e-5)
    assert spacing_s(ledger, NOON, 600) == pytest.approx(SECOND / 10, abs=1e-5)


def test_two_processes_share_one_rate(ledger: Ledger) -> None:
    other = open_ledger(str(ledger.engine.url), api_origin=ORIGIN, holds_outputs=lambda: None)
    send_times = [send_time for _ in range(10) for each in (ledger, other) for send_time in reserve(each)]
    other.close()
    assert seconds(send_times) == pytest.approx([number * SECOND for number in range(20)], abs=1e-4)
