"""When requests are sent and jobs looked at, on a clock that only moves while somebody waits."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.clocks import HandClock
from sqlalchemy import select

from segmind_dagster.gateway import pace, repeating
from segmind_dagster.ledger import open_ledger
from segmind_dagster.ledger.schema import RATE_LIMIT
from segmind_dagster.runner.poll_schedule import PollSchedule, counted_s
from segmind_dagster.runner.rate_limiter import RateLimiter
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from segmind_dagster.ledger import Ledger

LATENCIES = st.floats(0.05, 300)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite", api_origin="http://here", holds_outputs=lambda: None)
    yield opened
    opened.close()


def test_a_job_is_probably_over_after_the_longest_seen_or_twice_what_is_expected() -> None:
    schedule = PollSchedule(3.0)
    assert schedule.likely_over_s() == 6.0
    schedule.learn(1.0)
    assert schedule.likely_over_s() == 1.0
    schedule.learn_unfinished(9.0)
    assert schedule.likely_over_s() == 9.0


def looks_at(schedule: PollSchedule, latency_s: float, *, is_scout: bool = False) -> list[float]:
    """The moments at which a job that takes that long is looked at, the last one finding it done."""
    elapsed_s, looks = 0.0, []
    while not looks or looks[-1] < latency_s:
        elapsed_s += schedule.delay_s(elapsed_s, is_scout=is_scout)
        looks.append(elapsed_s)
    return looks


@given(usual_s=LATENCIES, is_measured=st.booleans())
def test_a_job_of_usual_latency_is_polled_at_most_three_times(usual_s: float, *, is_measured: bool) -> None:
    assert len(looks_at(PollSchedule(usual_s, is_measured=is_measured), usual_s)) <= 3


@given(usual_s=LATENCIES, slower=st.floats(1, 20))
def test_a_slow_job_is_found_within_five_percent_of_its_latency_and_ten_seconds(usual_s: float, slower: float) -> None:
    latency_s = usual_s * slower
    late_s = looks_at(PollSchedule(usual_s), latency_s)[-1] - latency_s
    assert late_s <= min(max(0.051 * latency_s, 0.11), 10.001)


@given(usual_s=st.floats(1, 300), faster=st.floats(0.01, 1))
def test_a_scout_finds_a_fast_job_within_twice_its_latency_with_few_polls(usual_s: float, faster: float) -> None:
    latency_s = usual_s * faster
    looks = looks_at(PollSchedule(usual_s), latency_s, is_scout=True)
    assert looks[-1] <= max(2 * latency_s, 0.5)
    assert len(looks) <= 14


@given(usual_s=LATENCIES, elapsed_s=st.floats(0, 10_000), is_scout=st.booleans())
def test_every_wait_is_positive_and_ends(usual_s: float, elapsed_s: float, *, is_scout: bool) -> None:
    assert 0 < PollSchedule(usual_s).delay_s(elapsed_s, is_scout=is_scout) <= max(usual_s, 10)


def test_only_a_few_jobs_of_a_model_never_measured_are_scouts() -> None:
    schedule = PollSchedule(2.5)
    assert [schedule.enlist() for _ in range(4)] == [True, True, False, False]
    assert not PollSchedule(2.5, is_measured=True).enlist()


def test_after_the_first_finished_job_no_scout_is_needed() -> None:
    schedule = PollSchedule(60)
    schedule.learn(0.5)
    assert not schedule.enlist()


def test_latencies_are_learnt_and_one_outlier_does_not_matter() -> None:
    schedule = PollSchedule(60)
    for latency_s in (1.0, 1.1, 0.9, 30.0, 1.0):
        schedule.learn(latency_s)
    assert schedule.expected_s == 1.0
    assert schedule.delay_s(0) == 1.0


def test_old_latencies_are_forgotten_when_the_provider_becomes_slower() -> None:
    schedule = PollSchedule(1.0)
    for _ in range(60):
        schedule.learn(1.0)
    for _ in range(60):
        schedule.learn(9.0)
    assert schedule.expected_s == 9.0


@given(ago_s=st.floats(-1e6, 1e9), usual_s=st.none() | st.floats(0.01, 1e5))
def test_a_job_of_another_run_is_polled_whatever_its_age(ago_s: float, usual_s: float | None) -> None:
    assert 0 <= counted_s(ago_s) <= PollSchedule(usual_s).deadline_s() / 2


@pytest.mark.parametrize(("usual_s", "deadline_s"), [(None, 600), (2.5, 600), (96.0, 960)])
def test_the_poll_deadline_is_ten_minutes_or_ten_times_the_usual_latency(
    usual_s: float | None, deadline_s: float
) -> None:
    assert PollSchedule(usual_s).deadline_s() == deadline_s


async def moments(rate_limiter: RateLimiter, clock: HandClock, count: int) -> list[float]:
    sent = []
    for _ in range(count):
        await rate_limiter.wait(may_go=lambda: True)
        sent.append(clock.monotonic())
    return sent


@pytest.mark.parametrize(("per_minute", "apart_s"), [(60, 1.0), (30, 2.0), (600, 0.1), (6000, 0.01)])
def test_requests_are_sent_evenly_at_the_configured_rate(ledger: Ledger, per_minute: float, apart_s: float) -> None:
    clock = HandClock()
    sent = asyncio.run(moments(RateLimiter(ledger, clock, per_minute), clock, 30))
    assert sent == pytest.approx([n * apart_s for n in range(30)], rel=0.011)


def test_two_runs_share_one_rate(ledger: Ledger) -> None:
    clock = HandClock()
    one, two = RateLimiter(ledger, clock, 60), RateLimiter(ledger, clock, 60)

    async def alternate() -> list[float]:
        return [(await moments(rate_limiter, clock, 1))[0] for rate_limiter in (one, two) * 5]

    assert asyncio.run(alternate()) == pytest.approx([float(n) for n in range(10)], rel=0.011)


def test_the_wait_for_the_rate_limit_is_returned_in_milliseconds(ledger: Ledger) -> None:
    clock = HandClock()
    rate_limiter = RateLimiter(ledger, clock, 60)

    async def waits() -> list[int]:
        return [await rate_limiter.wait(may_go=lambda: True) for _ in range(3)]

    assert asyncio.run(waits()) == [0, 1010, 1010]


def test_a_pause_is_not_followed_by_a_burst(ledger: Ledger) -> None:
    clock = HandClock()
    rate_limiter = RateLimiter(ledger, clock, 60)
    asyncio.run(moments(rate_limiter, clock, 3))
    clock.advance(600)
    sent = asyncio.run(moments(RateLimiter(ledger, clock, 60), clock, 3))
    assert sent == pytest.approx([602, 603, 604], abs=0.3)


def test_after_a_429_no_run_sends_before_the_reset_and_all_slow_down(ledger: Ledger) -> None:
    clock = HandClock()
    one, two = RateLimiter(ledger, clock, 60), RateLimiter(ledger, clock, 60)

    async def scene() -> tuple[list[float], list[float]]:
        await moments(one, clock, 5)
        await one.cut(30)
        return await moments(one, clock, 3), await moments(two, clock, 3)

    first, second = asyncio.run(scene())
    assert first[0] == pytest.approx(34, abs=0.1)
    sent = first + second
    apart = [later - earlier for earlier, later in itertools.pairwise(sent)]
    assert min(apart) > 1.9


def test_a_burst_of_429s_cuts_the_rate_once(ledger: Ledger) -> None:
    clock = HandClock()
    rate_limiter = RateLimiter(ledger, clock, 600)

    async def scene() -> list[float]:
        await moments(rate_limiter, clock, 1)
        for _ in range(20):
            await rate_limiter.cut(1)
        return await moments(rate_limiter, clock, 11)

    sent = asyncio.run(scene())
    assert sent[-1] - sent[0] == pytest.approx(10 * 0.1 / 0.5, rel=0.05)


def test_the_rate_recovers_after_some_quiet_minutes(ledger: Ledger) -> None:
    clock = HandClock()
    rate_limiter = RateLimiter(ledger, clock, 600)

    async def scene() -> list[float]:
        await rate_limiter.cut(0)
        clock.advance(30 * 60)
        return await moments(RateLimiter(ledger, clock, 600), clock, 11)

    sent = asyncio.run(scene())
    assert sent[-1] - sent[0] == pytest.approx(1.0, abs=0.3)


def test_rate_limited_polls_wait_without_slowing_submissions(open_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_LONGEST_GAP_S", 0.1)
    # one question in 64 is refused six times in a row, and is then left to the next run
    monkeypatch.setattr(repeating, "_ATTEMPTS", 40)
    lab = open_lab(faults=Faults(request_rates={"get_rate_limited": 0.5}, rate_limit_reset_s=0.2))
    lab.environ["SEGMIND_REQUESTS_PER_MINUTE"] = "60000"
    lab.generate(lab.write("fruit", 12))
    lab.check_all_bought_once(12)
    with lab.ledger() as ledger, ledger.reading() as connection:
        rate = connection.execute(select(RATE_LIMIT.c.per_minute)).scalar_one()
    assert rate == 60000
    assert {each["failure_kind"] for each in lab.attempts()} == {None}
