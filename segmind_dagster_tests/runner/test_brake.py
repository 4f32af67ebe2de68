"""When many failures stop a model, and when they do not."""

from __future__ import annotations

import pytest

from segmind_dagster.lifecycle.failures import POLICIES
from segmind_dagster.registry import find_model
from segmind_dagster.runner.brake import Brake
from segmind_dagster.runner.work import Ended, Work


def work(number: int = 0, *, model: str = "fast_flux_schnell", prompt_set: str = "set") -> Work:
    return Work(
        generation_id=f"g{number}", model=find_model(model), prompt_set=prompt_set, body={}, images={}, facts={},
        action="submit", reserve_usd=None,
    )  # fmt: skip


def failing(brake: Brake, times: int, message: str = "answered 400: no", **facts: str) -> None:
    for number in range(times):
        brake.learn(work(number, **facts), Ended("failed", "invalid_request", message.format(number)))


def test_twenty_alike_hold_the_model_back_and_no_other() -> None:
    brake = Brake()
    failing(brake, 19)
    assert brake.allows(work())
    failing(brake, 1)
    assert not brake.allows(work())
    assert brake.allows(work(model="sdxl_newreality"))
    ended = brake.held_back(work())
    assert (ended.ending, ended.failure_kind) == ("held_back", "invalid_request")
    assert "20 of its generations failed the same way" in str(ended.error)
    assert POLICIES["invalid_request"].advice in str(ended.error)


def test_messages_that_differ_only_in_ids_and_numbers_are_alike() -> None:
    brake = Brake()
    failing(brake, 20, "Request 0a1b2c3d4e{0}: steps '{0}' must be below {0}")
    assert not brake.allows(work())


def test_prompts_that_fail_each_in_their_own_way_stop_nothing() -> None:
    brake = Brake()
    for number in range(100):
        brake.learn(work(number), Ended("failed", "invalid_job", "refused: " + "xy"[number % 2] * (number + 1)))
    assert brake.allows(work())


def test_one_success_shows_that_it_is_not_the_model() -> None:
    brake = Brake()
    for _ in range(5):
        failing(brake, 19)
        brake.learn(work(), Ended("succeeded"))
    assert brake.allows(work())


@pytest.mark.parametrize("kind", ["bad_output", "expired"])
def test_what_was_paid_for_never_holds_a_model_back(kind: str) -> None:
    brake = Brake()
    for number in range(50):
        brake.learn(work(number), Ended("failed", kind, "cannot be used"))  # type: ignore[arg-type]
    assert brake.allows(work())


@pytest.mark.parametrize("kind", ["forbidden_model", "retired_model"])
def test_a_model_that_is_closed_to_the_account_is_held_back_at_once(kind: str) -> None:
    brake = Brake()
    brake.learn(work(), Ended("failed", kind, "answered 403"))  # type: ignore[arg-type]
    assert not brake.allows(work(1))


def test_a_set_without_budget_leaves_the_others_alone() -> None:
    brake = Brake()
    brake.hold_set("poor", "the set cap")
    assert not brake.allows(work(prompt_set="poor"))
    assert brake.held_back(work(prompt_set="poor")) == Ended("held_back", "over_budget", "the set cap")
    assert brake.allows(work(prompt_set="rich"))


def test_the_first_reason_for_a_stop_counts_and_everything_held_back_is_told_once() -> None:
    brake = Brake()
    brake.stop("no_credits", "empty")
    brake.stop("unauthorized", "wrong key")
    brake.hold_set("a", "empty")
    brake.hold_set("b", "spent")
    assert (brake.stopped_by, brake.messages) == ("no_credits", ["empty", "spent"])
