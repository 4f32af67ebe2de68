"""What may happen to a generation next, for every state, failure kind and asker."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, get_args

import pytest

from segmind_dagster.lifecycle.failures import PAID_KINDS, POLICIES
from segmind_dagster.lifecycle.next_step import MOST_RUNS, RETRYABLE, Standing, next_step
from segmind_dagster.lifecycle.states import IN_PROGRESS, State

if TYPE_CHECKING:
    from segmind_dagster.lifecycle.next_step import Step

STATES: tuple[State, ...] = get_args(State)
KINDS = [*POLICIES, None, "from_the_future"]
EVERY_STANDING = [
    Standing(state=state, is_owner_alive=is_alive, failure_kind=kind, was_accepted=was_accepted, runs=runs)
    for state, is_alive, kind, was_accepted, runs in product(
        STATES, (False, True), KINDS, (False, True), (0, MOST_RUNS - 1, MOST_RUNS)
    )
]


@pytest.mark.parametrize(
    ("standing", "of_person", "of_sensor"),
    [
        (None, "submit", "submit"),
        (Standing(state="planned"), "submit", "submit"),
        (Standing(state="planned", runs=MOST_RUNS), "submit", "leave"),
        (Standing(state="submitting"), "look_up", "look_up"),
        (Standing(state="unknown"), "look_up", "look_up"),
        (Standing(state="unknown", is_owner_alive=True), "wait", "wait"),
        (Standing(state="submitted"), "collect", "collect"),
        (Standing(state="succeeded"), "reuse", "reuse"),
        (Standing(state="failed", failure_kind="job_failed"), "submit", "submit"),
        (Standing(state="failed", failure_kind="job_failed", runs=MOST_RUNS), "submit", "leave"),
        (Standing(state="failed", failure_kind="invalid_job"), "submit", "leave"),
        (Standing(state="failed", failure_kind="refused_content"), "submit", "leave"),
        (Standing(state="failed", failure_kind="bad_output"), "collect", "collect"),
        (Standing(state="failed", failure_kind="expired", runs=MOST_RUNS), "collect", "collect"),
        (Standing(state="failed", failure_kind="from_the_future", was_accepted=True), "collect", "leave"),
    ],
)
def test_the_next_step_depends_on_what_is_recorded_and_who_asks(
    standing: Standing | None, of_person: Step, of_sensor: Step
) -> None:
    assert next_step(standing, by_person=True).step == of_person
    assert next_step(standing, by_person=False).step == of_sensor


def test_nothing_is_bought_that_is_paid_for_or_may_be() -> None:
    for standing, by_person in product(EVERY_STANDING, (False, True)):
        may_be_paid = standing.state in {*IN_PROGRESS, "succeeded"} or (
            standing.state == "failed"
            and (
                standing.failure_kind in PAID_KINDS or (standing.failure_kind not in POLICIES and standing.was_accepted)
            )
        )
        if may_be_paid:
            assert next_step(standing, by_person=by_person).step != "submit", standing


def test_a_sensor_never_buys_what_a_person_would_not() -> None:
    for standing in EVERY_STANDING:
        if next_step(standing, by_person=False).step == "submit":
            assert next_step(standing, by_person=True).step == "submit", standing


def test_what_the_sensor_asks_the_ledger_for_is_what_it_may_buy() -> None:
    """`RETRYABLE` chooses rows in SQL; it may not disagree with the decision."""
    for kind in POLICIES:
        if kind in RETRYABLE:
            assert next_step(Standing(state="failed", failure_kind=kind), by_person=False).step == "submit"
