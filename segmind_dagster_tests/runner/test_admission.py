"""When many failures stop a model, and when they do not."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from segmind_dagster.ledger.records import ModelDeliveries
from segmind_dagster.lifecycle.failures import POLICIES
from segmind_dagster.lifecycle.generation import Generation
from segmind_dagster.registry import find_model
from segmind_dagster.runner.admission import Admission
from segmind_dagster.runner.report import Ended

if TYPE_CHECKING:
    from segmind_dagster.lifecycle.failures import FailureKind


def work(number: int = 0, *, model: str = "fast_flux_schnell", prompt_set: str = "set") -> Generation:
    return Generation(
        generation_id=f"g{number}",
        model=find_model(model),
        prompt_set=prompt_set,
    )


def failing(admission: Admission, times: int, message: str = "answered 400: no", **fields: str) -> None:
    for number in range(times):
        admission.learn(work(number, **fields), Ended("failed", "invalid_request", message.format(number)))


def test_twenty_equal_failures_stop_only_their_model() -> None:
    admission = Admission()
    failing(admission, 19)
    assert admission.allows(work())
    failing(admission, 1)
    assert not admission.allows(work())
    assert admission.allows(work(model="sdxl_newreality"))
    ended = admission.held_back(work())
    assert (ended.ending, ended.failure_kind) == ("held_back", "invalid_request")
    assert "20 of its generations failed the same way" in str(ended.error)
    assert POLICIES["invalid_request"].advice in str(ended.error)


def test_messages_that_differ_only_in_ids_and_numbers_count_as_equal() -> None:
    admission = Admission()
    failing(admission, 20, "Request 0a1b2c3d4e{0}: steps '{0}' must be below {0}")
    assert not admission.allows(work())


def test_failures_with_different_messages_stop_nothing() -> None:
    admission = Admission()
    for number in range(100):
        admission.learn(work(number), Ended("failed", "invalid_job", "refused: " + "xy"[number % 2] * (number + 1)))
    assert admission.allows(work())


def test_one_success_keeps_the_model_from_being_stopped() -> None:
    admission = Admission()
    for _ in range(5):
        failing(admission, 19)
        admission.learn(work(), Ended("succeeded"))
    assert admission.allows(work())


def paid(number: int, kind: FailureKind = "bad_output", usd: str = "0.01") -> Ended:
    return Ended("failed", kind, "cannot be used", Decimal(usd), attempts=number + 1)


@pytest.mark.parametrize("kind", ["bad_output", "expired"])
def test_three_paid_unusable_outputs_stop_only_their_model(kind: FailureKind) -> None:
    admission = Admission(quarantine="/data/outputs/quarantine")
    for number in range(3):
        assert admission.allows(work())
        admission.learn(work(number), paid(number, kind))
    assert not admission.allows(work())
    assert admission.allows(work(model="sdxl_newreality"))
    ended = admission.held_back(work())
    assert (ended.ending, ended.failure_kind) == ("held_back", "bad_output")
    for words in ("$0.0300", "/data/outputs/quarantine/fast_flux_schnell", "segmind-dagster collect", "--buy-again"):
        assert words in str(ended.error)
    assert admission.messages == [ended.error]


def test_a_stopped_model_with_nothing_held_back_has_no_message() -> None:
    admission = Admission()
    for number in range(3):
        admission.learn(work(number), paid(number))
    assert admission.messages == []


def test_one_attempt_counts_once_however_often_it_is_fetched() -> None:
    known = ModelDeliveries(has_delivered=True, bad=frozenset({("g1", 2)}), bad_lately=1, bad_lately_usd=Decimal(0))
    admission = Admission({"fast-flux-schnell": known})
    for _ in range(5):
        admission.learn(work(1), paid(1))
        admission.learn(work(2), paid(2))
    assert admission.allows(work())
    admission.learn(work(3), paid(3))
    assert not admission.allows(work())


def test_reused_outputs_do_not_count_for_a_model_but_those_of_other_runs_do() -> None:
    never = ModelDeliveries(has_delivered=False, bad=frozenset(), bad_lately=0, bad_lately_usd=Decimal(0))

    async def admitted(before: Generation) -> int:
        admission = Admission({"fast-flux-schnell": never})
        admission.learn(before, Ended("reused"))
        tasks = [asyncio.create_task(admission.admits(work(number))) for number in range(9)]
        await asyncio.sleep(0)
        count = sum(task.done() for task in tasks)
        admission.stop(None, "over")
        await asyncio.gather(*tasks)
        return count

    assert asyncio.run(admitted(work()._replace(step="reuse"))) == 3
    assert asyncio.run(admitted(work())) == 9


def test_a_stop_from_another_thread_wakes_tasks_that_wait_for_scouts() -> None:
    never = ModelDeliveries(has_delivered=False, bad=frozenset(), bad_lately=0, bad_lately_usd=Decimal(0))

    async def wait() -> list[bool]:
        admission = Admission({"fast-flux-schnell": never})
        tasks = [asyncio.create_task(admission.admits(work(number))) for number in range(6)]
        await asyncio.sleep(0)
        await asyncio.to_thread(admission.interrupt, "somebody ends the run")
        return await asyncio.wait_for(asyncio.gather(*tasks), 5)

    assert asyncio.run(wait()) == [True] * 3 + [False] * 3


def test_a_set_that_ran_out_of_money_does_not_wait_for_scouts() -> None:
    never = ModelDeliveries(has_delivered=False, bad=frozenset(), bad_lately=0, bad_lately_usd=Decimal(0))

    async def wait() -> list[bool]:
        admission = Admission({"fast-flux-schnell": never})
        tasks = [asyncio.create_task(admission.admits(work(number))) for number in range(3)]
        poor = asyncio.create_task(admission.admits(work(3, prompt_set="poor")))
        await asyncio.sleep(0)
        admission.hold_set("poor", "spent")
        return [*await asyncio.gather(*tasks), await asyncio.wait_for(poor, 5)]

    assert asyncio.run(wait()) == [True, True, True, False]


@pytest.mark.parametrize("kind", ["forbidden_model", "retired_model"])
def test_a_forbidden_model_is_held_back_at_once(kind: str) -> None:
    admission = Admission()
    admission.learn(work(), Ended("failed", kind, "answered 403"))  # type: ignore[arg-type]
    assert not admission.allows(work(1))


def test_a_set_without_budget_leaves_the_others_alone() -> None:
    admission = Admission()
    admission.hold_set("poor", "the set cap")
    assert not admission.allows(work(prompt_set="poor"))
    assert admission.held_back(work(prompt_set="poor")) == Ended("held_back", "over_budget", "the set cap")
    assert admission.allows(work(prompt_set="rich"))


def test_the_first_stop_reason_counts_and_each_message_appears_once() -> None:
    admission = Admission()
    admission.stop("no_credits", "empty")
    admission.stop("unauthorized", "wrong key")
    admission.hold_set("a", "empty")
    admission.hold_set("b", "spent")
    assert (admission.stopped_by, admission.messages) == ("no_credits", ["empty", "spent"])


def test_moderation_refusals_never_stop_a_model() -> None:
    admission = Admission()
    for number in range(100):
        admission.learn(work(number), Ended("failed", "refused_content", "NSFW content detected"))
    assert admission.allows(work())


def test_a_model_without_answers_is_stopped_and_others_continue() -> None:
    admission = Admission()
    for number in range(7):
        admission.unanswered(work(number), "timed out")
    assert admission.allows(work())
    admission.unanswered(work(7), "timed out")
    assert not admission.allows(work())
    assert admission.allows(work(model="sdxl_newreality"))
    ended = admission.held_back(work())
    assert (ended.ending, ended.failure_kind) == ("held_back", "unknown_outcome")
    assert "8 POSTs in a row got no answer (timed out)" in str(ended.error)


def test_one_answer_resets_the_count_of_unanswered_posts() -> None:
    admission = Admission()
    for _ in range(3):
        for number in range(7):
            admission.unanswered(work(number), "timed out")
        admission.answered(work())
    assert admission.allows(work())
