"""What may happen to a generation next, for every state, failure kind and asker."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, get_args

import pytest

from segmind_dagster.lifecycle.failures import PAID_KINDS, POLICIES
from segmind_dagster.lifecycle.generation import Generation
from segmind_dagster.lifecycle.next_step import MOST_RUNS, RETRYABLE, next_step
from segmind_dagster.lifecycle.states import IN_PROGRESS, State
from segmind_dagster.registry.models import FAST_FLUX_SCHNELL

if TYPE_CHECKING:
    from segmind_dagster.lifecycle.next_step import Step

STATES: tuple[State, ...] = get_args(State)
KINDS = [*POLICIES, None, "from_the_future"]


def recorded(**fields: Any) -> Generation:
    return Generation(generation_id="g", prompt_set="set", model=FAST_FLUX_SCHNELL, **fields)


EVERY_RECORD = [
    recorded(
        state=state,
        is_owner_alive=is_alive,
        failure_kind=kind,
        request_id="r" if was_accepted else None,
        failed_runs=runs,
    )
    for state, is_alive, kind, was_accepted, runs in product(
        STATES, (False, True), KINDS, (False, True), (0, MOST_RUNS - 1, MOST_RUNS)
    )
]


@pytest.mark.parametrize(
    ("generation", "of_person", "of_sensor"),
    [
        (recorded(), "submit", "submit"),
        (recorded(state="planned"), "submit", "submit"),
        (recorded(state="planned", failed_runs=MOST_RUNS), "submit", "leave"),
        (recorded(state="submitting"), "look_up", "look_up"),
        (recorded(state="unknown"), "look_up", "look_up"),
        (recorded(state="unknown", is_owner_alive=True), "wait", "wait"),
        (recorded(state="submitted"), "collect", "collect"),
        (recorded(state="succeeded"), "reuse", "reuse"),
        (recorded(state="failed", failure_kind="job_failed"), "submit", "submit"),
        (recorded(state="failed", failure_kind="job_failed", failed_runs=MOST_RUNS), "submit", "leave"),
        (recorded(state="failed", failure_kind="invalid_job"), "submit", "leave"),
        (recorded(state="failed", failure_kind="refused_content"), "submit", "leave"),
        (recorded(state="failed", failure_kind="bad_output"), "collect", "collect"),
        (recorded(state="failed", failure_kind="expired", failed_runs=MOST_RUNS), "collect", "collect"),
        (recorded(state="failed", failure_kind="from_the_future", request_id="r"), "collect", "leave"),
    ],
)
def test_the_next_step_depends_on_what_is_recorded_and_who_asks(
    generation: Generation, of_person: Step, of_sensor: Step
) -> None:
    assert next_step(generation, by_person=True).step == of_person
    assert next_step(generation, by_person=False).step == of_sensor


def test_nothing_that_is_or_may_be_paid_is_bought() -> None:
    for generation, by_person in product(EVERY_RECORD, (False, True)):
        is_unclear = generation.failure_kind not in POLICIES and generation.was_accepted
        may_be_paid = generation.state in {*IN_PROGRESS, "succeeded"} or (
            generation.state == "failed" and (generation.failure_kind in PAID_KINDS or is_unclear)
        )
        if may_be_paid:
            assert next_step(generation, by_person=by_person).step != "submit", generation


def test_a_sensor_never_buys_what_a_person_would_not() -> None:
    for generation in EVERY_RECORD:
        if next_step(generation, by_person=False).step == "submit":
            assert next_step(generation, by_person=True).step == "submit", generation


def test_the_sensor_queries_exactly_what_it_may_buy() -> None:
    """`RETRYABLE` chooses rows in SQL; it may not disagree with the decision."""
    for kind in POLICIES:
        if kind in RETRYABLE:
            assert next_step(recorded(state="failed", failure_kind=kind), by_person=False).step == "submit"
