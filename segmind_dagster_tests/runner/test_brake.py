"""When many failures stop a model, and when they do not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from segmind_dagster.ledger.records import ModelDeliveries
from segmind_dagster.lifecycle.failures import POLICIES
from segmind_dagster.lifecycle.generation import Generation
from segmind_dagster.registry import find_model
from segmind_dagster.runner.brake import Brake
from segmind_dagster.runner.work import Ended

if TYPE_CHECKING:
    from segmind_dagster.lifecycle.failures import FailureKind


def work(number: int = 0, *, model: str = "fast_flux_schnell", prompt_set: str = "set") -> Generation:
    return Generation(
        generation_id=f"g{number}",
        model=find_model(model),
        prompt_set=prompt_set,
    )


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


def paid(number: int, kind: FailureKind = "bad_output", usd: str = "0.01") -> Ended:
    return Ended("failed", kind, "cannot be used", Decimal(usd), attempts=number + 1)


@pytest.mark.parametrize("kind", ["bad_output", "expired"])
def test_three_paid_outputs_that_cannot_be_used_stop_their_model_and_no_other(kind: FailureKind) -> None:
    brake = Brake(quarantine="/data/outputs/quarantine")
    for number in range(3):
        assert brake.allows(work())
        brake.learn(work(number), paid(number, kind))
    assert not brake.allows(work())
    assert brake.allows(work(model="sdxl_newreality"))
    ended = brake.held_back(work())
    assert (ended.ending, ended.failure_kind) == ("held_back", "bad_output")
    for words in ("$0.0300", "/data/outputs/quarantine/fast_flux_schnell", "segmind-dagster collect", "--buy-again"):
        assert words in str(ended.error)
    assert brake.messages == [ended.error]


def test_a_model_that_stopped_nothing_is_no_reason_to_stop_the_run() -> None:
    brake = Brake()
    for number in range(3):
        brake.learn(work(number), paid(number))
    assert brake.messages == []


def test_one_attempt_counts_once_however_often_it_is_fetched() -> None:
    known = ModelDeliveries(has_delivered=True, bad=frozenset({("g1", 2)}), bad_lately=1, bad_lately_usd=Decimal(0))
    brake = Brake({"fast-flux-schnell": known})
    for _ in range(5):
        brake.learn(work(1), paid(1))
        brake.learn(work(2), paid(2))
    assert brake.allows(work())
    brake.learn(work(3), paid(3))
    assert not brake.allows(work())


def test_what_the_plan_reuses_says_nothing_about_a_model_and_what_another_run_stored_does() -> None:
    never = ModelDeliveries(has_delivered=False, bad=frozenset(), bad_lately=0, bad_lately_usd=Decimal(0))

    async def admitted(before: Generation) -> int:
        brake = Brake({"fast-flux-schnell": never})
        brake.learn(before, Ended("reused"))
        tasks = [asyncio.create_task(brake.admits(work(number))) for number in range(9)]
        await asyncio.sleep(0)
        count = sum(task.done() for task in tasks)
        brake.stop(None, "over")
        await asyncio.gather(*tasks)
        return count

    assert asyncio.run(admitted(replace(work(), step="reuse"))) == 3
    assert asyncio.run(admitted(work())) == 9


def test_whoever_waits_for_scouts_is_let_go_by_a_stop_from_another_thread() -> None:
    never = ModelDeliveries(has_delivered=False, bad=frozenset(), bad_lately=0, bad_lately_usd=Decimal(0))

    async def wait() -> list[bool]:
        brake = Brake({"fast-flux-schnell": never})
        tasks = [asyncio.create_task(brake.admits(work(number))) for number in range(6)]
        await asyncio.sleep(0)
        await asyncio.to_thread(brake.interrupt, "somebody ends the run")
        return await asyncio.wait_for(asyncio.gather(*tasks), 5)

    assert asyncio.run(wait()) == [True] * 3 + [False] * 3


def test_a_set_that_ran_out_of_money_does_not_wait_for_scouts() -> None:
    never = ModelDeliveries(has_delivered=False, bad=frozenset(), bad_lately=0, bad_lately_usd=Decimal(0))

    async def wait() -> list[bool]:
        brake = Brake({"fast-flux-schnell": never})
        tasks = [asyncio.create_task(brake.admits(work(number))) for number in range(3)]
        poor = asyncio.create_task(brake.admits(work(prompt_set="poor")))
        await asyncio.sleep(0)
        brake.hold_set("poor", "spent")
        return [*await asyncio.gather(*tasks), await asyncio.wait_for(poor, 5)]

    assert asyncio.run(wait()) == [True, True, True, False]


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


def test_no_number_of_prompts_that_moderation_refuses_stops_the_model() -> None:
    brake = Brake()
    for number in range(100):
        brake.learn(work(number), Ended("failed", "refused_content", "NSFW content detected"))
    assert brake.allows(work())


def test_a_model_that_answers_no_post_is_not_asked_any_more_and_others_are() -> None:
    brake = Brake()
    for number in range(7):
        brake.unanswered(work(number), "timed out")
    assert brake.allows(work())
    brake.unanswered(work(7), "timed out")
    assert not brake.allows(work())
    assert brake.allows(work(model="sdxl_newreality"))
    ended = brake.held_back(work())
    assert (ended.ending, ended.failure_kind) == ("held_back", "unknown_outcome")
    assert "8 POSTs in a row got no answer (timed out)" in str(ended.error)


def test_one_answer_shows_that_a_model_is_there() -> None:
    brake = Brake()
    for _ in range(3):
        for number in range(7):
            brake.unanswered(work(number), "timed out")
        brake.answered(work())
    assert brake.allows(work())
