"""Unpaid failures and unfinished work are retried after a pause, within the budgets, and a bounded number of times."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from lab.dagster_project import RANGE_END, RANGE_START, asset_key
from lab.project import FLUX, REALITY, STICKER
from lab.sensors import STARTED, Past, Ticks, ago, ahead, balance_is, record_run

from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.sensors import REQUESTED_BY, build_failed_generations, failed_generations
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.dagster_project import DagsterLab

ASSET = f"segmind/{REALITY}"
PARTITION = "dagster/partition"
CANCELED = dg.DagsterRunStatus.CANCELED


@pytest.fixture
def ticks(lab: DagsterLab) -> Ticks:
    return Ticks(lab, failed_generations)


def test_the_sensor_is_on_by_default_and_skips_before_the_first_run(lab: DagsterLab, ticks: Ticks) -> None:
    assert failed_generations.default_status == dg.DefaultSensorStatus.RUNNING
    assert ticks.reason() == "Nothing has been generated yet."
    assert not lab.data.exists()


def test_a_failure_is_retried_after_its_pause_and_then_nothing_is_left(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["server_error"] * 3))
    lab.publish_short_latencies()
    assert lab.run(ASSET, partition=lab.write("fruit", 1)).is_success
    requests_before = lab.server.account()["requests"]
    assert "The next retry is at" in Ticks(lab, failed_generations).reason()
    (request,), _ = Ticks(lab, build_failed_generations(clock=ahead(minutes=6))).tick()
    assert lab.server.account()["requests"] == requests_before
    assert request.partition_key == "fruit"
    assert request.tags[REQUESTED_BY] == "failed_generations"
    assert lab.run(ASSET, partition="fruit", tags=request.tags).is_success
    assert [row["state"] for row in lab.generations()] == ["succeeded"]
    assert Ticks(lab, build_failed_generations(clock=ahead(days=2))).reason() == "Nothing is left to do."


def test_a_model_stopped_for_bad_outputs_is_left_to_a_person(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(rates={"undecodable": 1.0}))
    key = lab.write("fruit", 6)
    assert not lab.run(ASSET, partition=key).is_success
    charges = lab.server.account()["charges"]
    requests, reason = Ticks(lab, build_failed_generations(clock=ahead(minutes=6))).tick()
    assert (charges, requests) == (3, [])
    assert f"Stopped after outputs that were paid for and cannot be used: {REALITY}." in str(reason)
    assert "a person who materializes a set sends three more" in str(reason)


def test_only_the_models_concerned_are_run(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 1, models=[FLUX, REALITY])
    past = Past(lab, "fruit", registered_at=ago())
    number = next(n for n, request in enumerate(past.requests) if request.model.resource == FLUX)
    past.fails(number)
    (request,), _ = ticks.tick()
    assert request.asset_selection == [asset_key(f"segmind/{FLUX}")]


def test_two_models_of_a_set_are_one_run(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 1, models=[FLUX, REALITY])
    past = Past(lab, "fruit")
    past.fails(0)
    past.fails(1)
    (request,), _ = ticks.tick()
    assert set(request.asset_selection or []) == {asset_key(f"segmind/{FLUX}"), asset_key(ASSET)}


@pytest.mark.parametrize(
    ("runs", "minutes", "is_run"),
    [(1, 4, False), (1, 6, True), (2, 9, False), (2, 11, True), (5, 79, False), (5, 81, True), (6, 60 * 24, False)],
)
def test_each_failed_run_doubles_the_pause_and_six_are_the_limit(
    lab: DagsterLab, ticks: Ticks, runs: int, minutes: int, is_run: bool
) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").fails(0, runs=runs, at=ago(minutes=minutes))
    requests, reason = ticks.tick()
    assert bool(requests) is is_run, reason
    if runs == 6:
        assert reason == "1 generations failed in enough runs; the asset checks name them."


@pytest.mark.parametrize("kind", ["invalid_request", "forbidden_model", "retired_model", "invalid_job"])
def test_a_permanent_failure_is_never_run_again(lab: DagsterLab, ticks: Ticks, kind: str) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").fails(0, kind)
    assert ticks.reason() == "Nothing is left to do."


@pytest.mark.parametrize("kind", ["bad_output", "expired"])
def test_paid_failures_are_not_bought_again(lab: DagsterLab, ticks: Ticks, kind: str) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").fails(0, kind, cost_usd=Decimal("0.01"))
    assert ticks.reason() == "Nothing is left to do."


def test_prompts_no_longer_in_the_set_are_not_run(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", ["a pear"])
    Past(lab, "fruit").fails(0)
    lab.write("fruit", ["an apple"])
    Past(lab, "fruit", registered_at=ago())
    assert "The next retry is at" in ticks.reason()


def test_a_file_edited_since_the_failure_waits_for_a_person(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", ["a pear"])
    Past(lab, "fruit").fails(0)
    lab.write("fruit", ["a pear", "a golden pear"])
    assert "'fruit' has changed since its last run" in ticks.reason()
    lab.write("fruit", ["an apple"])
    assert "'fruit' has changed since its last run" in ticks.reason()
    lab.write_text("fruit.yaml", "models: [")
    assert "'fruit' cannot be read: fruit.yaml" in ticks.reason()


def test_a_set_without_a_partition_is_named_and_left_out(lab: DagsterLab, ticks: Ticks) -> None:
    for key in ("fruit", "pear"):
        lab.write(key, 1)
        Past(lab, key).fails(0)
    lab.instance.delete_dynamic_partition("prompt_sets", "fruit")
    assert ticks.partitions() == ["pear"]
    lab.instance.delete_dynamic_partition("prompt_sets", "pear")
    assert ticks.reason() == "No prompt file any more: fruit, pear."


def test_generations_that_a_dead_run_never_began_are_run(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 3)
    past = Past(lab, "fruit")
    past.leases("gone", ago(hours=1))
    assert ticks.partitions() == ["fruit"]


def test_recently_planned_generations_are_left_to_their_run(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 3)
    Past(lab, "fruit", registered_at=ago(minutes=1))
    assert "The next retry is at" in ticks.reason()


def test_planned_generations_are_left_to_an_active_script(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 3)
    past = Past(lab, "fruit")
    past.leases("script", ago(minutes=-5))
    assert "A script or the job `collect` is at work" in ticks.reason()
    past.fails(0)
    assert ticks.partitions() == ["fruit"]


def test_an_active_run_of_another_set_blocks_nothing(lab: DagsterLab, ticks: Ticks) -> None:
    for key in ("fruit", "pear"):
        lab.write(key, 1)
    past = Past(lab, "fruit")
    run_id = record_run(lab, STARTED, ASSET, tags={PARTITION: "pear"})
    past.leases("other", ago(minutes=-5), run_id=run_id)
    assert ticks.partitions() == ["fruit"]


@pytest.mark.parametrize(
    "tags",
    [{PARTITION: "fig"}, {RANGE_START: "apple", RANGE_END: "pear"}, {RANGE_START: "fig", RANGE_END: "gone"}],
    ids=["one partition", "a range", "a range whose end was removed"],
)
@pytest.mark.parametrize("status", [STARTED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.CANCELING])
def test_partitions_in_flight_are_skipped_with_a_reason(
    lab: DagsterLab, ticks: Ticks, tags: dict[str, str], status: dg.DagsterRunStatus
) -> None:
    for key in ("apple", "fig", "pear"):
        lab.write(key, 1)
    Past(lab, "fig").fails(0)
    run_id = record_run(lab, status, ASSET, tags=tags)
    assert ticks.reason() == f"In flight already: fig (run {run_id[:8]})."


def test_a_run_of_another_model_or_set_does_not_block_a_retry(lab: DagsterLab, ticks: Ticks) -> None:
    for key in ("apple", "fig", "pear"):
        lab.write(key, 1)
    Past(lab, "fig").fails(0)
    record_run(lab, STARTED, f"segmind/{STICKER}", tags={PARTITION: "fig"})
    record_run(lab, STARTED, ASSET, tags={RANGE_START: "apple", RANGE_END: "apple"})
    assert ticks.partitions() == ["fig"]


def test_a_run_that_vanished_is_not_in_flight(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 1)
    past = Past(lab, "fruit")
    run_id = record_run(lab, STARTED, ASSET, tags={PARTITION: "fruit"})
    past.leases("lost", ago(minutes=30), run_id=run_id)
    assert "In flight already" in ticks.reason()
    past.leases("lost", ago(hours=3), run_id=run_id)
    assert ticks.partitions() == ["fruit"]


@pytest.mark.parametrize(
    "tags", [{PARTITION: "fruit"}, {RANGE_START: "fruit", RANGE_END: "fruit"}], ids=["one partition", "a range"]
)
def test_a_stopped_partition_is_not_run_until_a_person_runs_it(
    lab: DagsterLab, ticks: Ticks, tags: dict[str, str]
) -> None:
    lab.write("fruit", 2)
    Past(lab, "fruit").fails(0)
    record_run(lab, dg.DagsterRunStatus.FAILURE, ASSET, tags={PARTITION: "fruit"})
    record_run(lab, CANCELED, ASSET, tags=tags)
    assert ticks.reason() == "Stopped by somebody, to be materialized by hand: fruit."
    record_run(lab, dg.DagsterRunStatus.FAILURE, ASSET, tags={PARTITION: "fruit"})
    assert ticks.partitions() == ["fruit"]


def test_a_run_that_dies_before_recording_anything_is_retried_with_growing_pauses(
    lab: DagsterLab,
) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").fails(0)
    keys = set()
    for n in range(6):
        # each one ended just now, so that the pause after it is to come
        if n:
            assert f"{n} runs for 'fruit' changed nothing" in Ticks(lab, failed_generations).reason()
        (request,), _ = Ticks(lab, build_failed_generations(clock=ahead(minutes=5 * 2**n))).tick()
        keys.add(request.run_key)
        record_run(lab, dg.DagsterRunStatus.FAILURE, ASSET, tags={**request.tags, PARTITION: "fruit"})
    assert len(keys) == 6
    assert "materialize it by hand" in Ticks(lab, build_failed_generations(clock=ahead(days=30))).reason()


def test_the_same_tick_again_asks_for_the_same_run(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").fails(0)
    (first,), _ = ticks.tick()
    (second,), _ = ticks.tick()
    assert first.run_key == second.run_key


def test_with_an_exhausted_budget_nothing_is_run_and_the_reason_given(
    lab: DagsterLab, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write("fruit", 1, budget_usd=0.001)
    Past(lab, "fruit").fails(0)
    reason = ticks.reason()
    assert "`budget_usd`" in reason
    assert "'fruit'" in reason
    lab.write("fruit", 1)
    monkeypatch.setenv("SEGMIND_DAILY_BUDGET_USD", "0.001")
    assert "'fruit' waits for tomorrow (UTC): $0.0000 of today's $0.001 is used" in ticks.reason()
    monkeypatch.setenv("SEGMIND_DAILY_BUDGET_USD", "1")
    assert ticks.partitions() == ["fruit"]


def test_without_a_key_nothing_is_run(lab: DagsterLab, ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").fails(0)
    monkeypatch.delenv("SEGMIND_API_KEY")
    assert "SEGMIND_API_KEY" in ticks.reason()


def test_an_account_error_does_not_count_against_a_generation(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 1)
    past = Past(lab, "fruit")
    for n in range(8):
        past.fails(0, "no_credits", target="planned", at=ago(hours=9 - n))
    assert ticks.partitions() == ["fruit"]


def test_an_empty_account_is_retried_rarely_until_a_balance_is_seen(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").fails(0, "no_credits", target="planned")
    balance_is(lab, "0.0001", ago(minutes=30))
    (request,), _ = ticks.tick()
    record_run(lab, dg.DagsterRunStatus.FAILURE, ASSET, tags={**request.tags, PARTITION: "fruit"})
    assert "The account held $0.0001" in ticks.reason()
    balance_is(lab, "20", ago(minutes=1))
    (request,), _ = ticks.tick()
    assert request.partition_key == "fruit"


def test_a_generation_shared_by_two_sets_is_one_run_for_each(lab: DagsterLab, ticks: Ticks) -> None:
    for key in ("apple", "pear"):
        lab.write(key, ["fruit on a plate"])
    Past(lab, "pear")
    Past(lab, "apple").fails(0)
    assert ticks.partitions() == ["apple", "pear"]


def test_many_sets_take_turns(lab: DagsterLab, ticks: Ticks) -> None:
    keys = [f"set{n:02}" for n in range(30)]
    for key in keys:
        lab.write(key, [key], budget_usd=0.001)
        Past(lab, key).fails(0)
    assert "10 more prompt sets have their turn" in ticks.reason()
    for key in keys[20:]:
        lab.write(key, [key])
    assert ticks.partitions() == keys[20:]


def test_a_ledger_of_another_origin_is_a_reason_and_not_an_error(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").fails(0)
    lab.segmind = SegmindResource(project_dir=str(lab.folder), data_dir=str(lab.data), api_url="http://127.0.0.1:9")
    assert "http://127.0.0.1:9" in ticks.reason()
