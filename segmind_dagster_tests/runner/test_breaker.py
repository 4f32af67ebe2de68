"""The circuit breaker by itself: in whatever order what ends, three disappointments are paid for and nobody hangs."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.runner.breaker import SCOUTS, CircuitBreaker

Fate = Literal["good", "bad", "free"]


def run(breaker: CircuitBreaker, fates: list[Fate], order: list[int]) -> tuple[CircuitBreaker, int, int, int]:
    """Send as many as may go, end them in some order; the breaker, what was sent, the most at once, what was bad."""
    sent = most = bad = 0
    flying: list[Fate] = []
    for turn in range(10 * len(fates) + 10):
        while sent < len(fates) and breaker.answer() == "go":
            breaker = breaker.sent()
            flying.append(fates[sent])
            sent += 1
        most = max(most, len(flying))
        if not flying:
            break
        fate = flying.pop(order[turn % len(order)] % len(flying))
        breaker = breaker.landed()
        if fate == "good":
            breaker = breaker.delivered()
        if fate == "bad":
            bad += 1
            breaker = breaker.disappointed()
    assert breaker.in_flight == 0
    return breaker, sent, most, bad


fates = st.lists(st.sampled_from(["good", "bad", "free"]), max_size=40)
orders = st.lists(st.integers(0, 1000), min_size=1, max_size=40)


@given(fates, orders, st.integers(0, 9), st.booleans(), st.booleans())
def test_every_generation_is_sent_unless_the_breaker_is_open(
    fates: list[Fate], order: list[int], bad: int, has_delivered: bool, is_by_person: bool
) -> None:
    start = CircuitBreaker.at_start(has_delivered=has_delivered, bad=bad, is_by_person=is_by_person)
    breaker, sent, _, _ = run(start, fates, order)
    assert sent == len(fates) or breaker.state == "open", "it neither sends nor says no: it hangs"
    assert breaker.answer() != "wait", "nothing is in progress, and the next one waits for it"


@given(st.lists(st.sampled_from(["bad", "free"]), max_size=40), orders, st.integers(0, 9), st.booleans())
def test_a_model_that_never_delivers_is_paid_three_times_at_most(
    fates: list[Fate], order: list[int], before: int, is_by_person: bool
) -> None:
    start = CircuitBreaker.at_start(has_delivered=False, bad=before, is_by_person=is_by_person)
    _, _, most, bad = run(start, fates, order)
    allowed = SCOUTS if is_by_person and before >= SCOUTS else max(SCOUTS - before, 0)
    assert bad <= allowed
    assert most <= allowed


@given(st.lists(st.sampled_from(["bad", "free"]), max_size=40), orders, st.integers(3, 9))
def test_a_sensor_sends_nothing_to_a_stopped_model(fates: list[Fate], order: list[int], before: int) -> None:
    for has_delivered in (True, False):
        start = CircuitBreaker.at_start(has_delivered=has_delivered, bad=before, is_by_person=False)
        assert run(start, fates, order)[1] == 0


@pytest.mark.parametrize("has_delivered", [True, False])
def test_a_person_who_tries_a_stopped_model_again_sends_three(has_delivered: bool) -> None:
    breaker = CircuitBreaker.at_start(has_delivered=has_delivered, bad=7, is_by_person=True)
    _, sent, most, bad = run(breaker, ["bad"] * 20, [0])
    assert (sent, most, bad) == (3, 3, 3)


def test_one_good_output_closes_the_breaker() -> None:
    breaker = CircuitBreaker.at_start(has_delivered=False, bad=2, is_by_person=True).sent()
    assert breaker.answer() == "wait"
    assert breaker.landed().delivered() == CircuitBreaker(state="closed")


def test_a_proven_model_needs_no_scouts_and_is_stopped_by_three_bad_outputs() -> None:
    breaker = CircuitBreaker.at_start(has_delivered=True, bad=1, is_by_person=False)
    for _ in range(100):
        breaker = breaker.sent()
    assert breaker.answer() == "go"
    assert breaker.landed().disappointed().answer() == "go"
    assert breaker.landed().disappointed().landed().disappointed().answer() == "stop"


def test_a_late_good_output_closes_the_breaker_again() -> None:
    breaker = CircuitBreaker(state="half_open").disappointed().disappointed().disappointed()
    assert breaker.answer() == "stop"
    assert breaker.delivered().answer() == "go"
