"""What was paid for and is not stored is collected at once, whatever the budget, the back-off or the file says."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from lab.project import FLUX, REALITY
from lab.sensors import STARTED, Past, Ticks, ago, ahead, record_run

from segmind_dagster.orchestration.sensors import build_paid_outputs, collect_job, paid_outputs
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.dagster_project import DagsterLab

ASSET = f"segmind/{FLUX}"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def ticks(lab: DagsterLab) -> Ticks:
    return Ticks(lab, paid_outputs)


def states(lab: DagsterLab) -> list[tuple[Any, ...]]:
    return [(row["state"], row["failure_kind"]) for row in lab.generations()]


def test_without_anything_to_collect_the_tick_is_skipped(lab: DagsterLab, ticks: Ticks) -> None:
    assert ticks.reason() == "Nothing has been generated yet."
    lab.write("fruit", 1)
    Past(lab, "fruit")
    assert ticks.reason() == "Everything that was paid for is stored."
    assert lab.run_collect().is_success


def test_submissions_of_a_dead_run_are_collected_loaded_and_shown(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 1, models=[FLUX])
    past = Past(lab, "fruit")
    past.submits(0, request_id=past.sends(0), at=ago())
    past.leases("gone", ago())
    (request,), _ = ticks.tick()
    assert request.job_name in {None, collect_job.name}
    assert request.partition_key is None
    assert lab.run_collect().is_success
    assert states(lab) == [("succeeded", None)]
    assert lab.records(f"SELECT prompt_set, status FROM {FLUX}") == [{"prompt_set": "fruit", "status": "succeeded"}]
    assert lab.materialized(ASSET) == {"fruit"}
    assert lab.server.account()["charges"] == 1
    assert ticks.reason() == "Everything that was paid for is stored."


def test_collecting_needs_neither_budget_nor_prompt_file(
    lab: DagsterLab, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write("fruit", 1, models=[FLUX], budget_usd=0.0001)
    past = Past(lab, "fruit")
    past.submits(0, request_id=past.sends(0), at=ago())
    monkeypatch.setenv("SEGMIND_DAILY_BUDGET_USD", "0.0001")
    (lab.prompts / "fruit.yaml").unlink()
    lab.instance.delete_dynamic_partition("prompt_sets", "fruit")
    assert len(ticks.tick()[0]) == 1
    assert lab.run_collect().is_success
    assert lab.records(f"SELECT prompt_set, status FROM {FLUX}") == [{"prompt_set": "fruit", "status": "succeeded"}]
    assert lab.materialized(ASSET) == set()


def test_a_partition_with_something_left_to_buy_is_not_shown_as_complete(lab: DagsterLab) -> None:
    lab.write("fruit", 2, models=[FLUX])
    past = Past(lab, "fruit")
    past.submits(0, request_id=past.sends(0), at=ago())
    assert lab.run_collect().is_success
    assert lab.materialized(ASSET) == set()
    assert sorted(states(lab)) == [("planned", None), ("succeeded", None)]
    assert lab.posts == 1


def test_generations_of_a_live_run_are_not_collected(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 1)
    past = Past(lab, "fruit")
    past.submits(0, owner="living", at=ago(minutes=2))
    past.leases("living", ago(minutes=-5))
    assert ticks.reason() == "1 generations are in the hands of a run."


@pytest.mark.parametrize(
    ("submitted_min", "looked_min", "is_run"),
    [(60, 40, True), (60, 10, False), (0.8, 0.3, False), (60 * 24 * 8, 60 * 24 * 2, False)],
)
def test_given_up_submissions_are_looked_up_with_growing_pauses_for_a_week(
    lab: DagsterLab, ticks: Ticks, submitted_min: float, looked_min: float, is_run: bool
) -> None:
    lab.write("fruit", 1)
    past = Past(lab, "fruit", registered_at=ago(days=20))
    past.submits(0, at=ago(minutes=submitted_min))
    past.lets_go(0, at=ago(minutes=looked_min))
    requests_, reason = ticks.tick()
    assert bool(requests_) is is_run, reason


def test_a_file_that_could_not_be_used_is_fetched_again_and_not_bought_again(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["undecodable"]))
    lab.write("fruit", 1, models=[FLUX])
    lab.run(ASSET, partition="fruit")
    assert states(lab) == [("failed", "bad_output")]
    assert "1 are looked for again" in Ticks(lab, paid_outputs).reason()
    assert len(Ticks(lab, build_paid_outputs(clock=ahead(minutes=2))).tick()[0]) == 1
    assert lab.run_collect().is_success
    assert states(lab) == [("failed", "bad_output")]
    assert lab.posts == 1
    assert Ticks(lab, build_paid_outputs(clock=ahead(days=8))).reason() == "Everything that was paid for is stored."


def test_a_paid_failure_is_collected_by_its_own_age(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").fails(0, "expired", cost_usd=Decimal("0.01"), at=ago(minutes=30))
    assert len(ticks.tick()[0]) == 1


def test_the_job_runs_once_at_a_time_with_growing_pauses_after_failures(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").submits(0, at=ago(minutes=2))
    (first,), _ = ticks.tick()
    run_id = record_run(lab, STARTED, job_name=collect_job.name, tags={})
    assert ticks.reason() == f"1 outputs can be collected; run {run_id[:8]} is at it."
    lab.instance.delete_run(run_id)
    for _ in range(2):
        record_run(lab, dg.DagsterRunStatus.FAILURE, job_name=collect_job.name, tags={})
    assert "2 runs have failed in a row" in ticks.reason()
    (again,), _ = Ticks(lab, build_paid_outputs(clock=ahead(minutes=11))).tick()
    assert again.run_key != first.run_key
    record_run(lab, dg.DagsterRunStatus.SUCCESS, job_name=collect_job.name, tags={})
    assert len(ticks.tick()[0]) == 1


def test_without_a_key_the_tick_is_skipped_instead_of_failing(
    lab: DagsterLab, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").submits(0, at=ago(minutes=2))
    monkeypatch.delenv("SEGMIND_API_KEY")
    assert "SEGMIND_API_KEY" in ticks.reason()


def test_the_tick_sends_no_request(lab: DagsterLab, ticks: Ticks) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").submits(0, at=ago(minutes=2))
    ticks.tick()
    assert sum(lab.server.account()["requests"].values()) == 0


def test_a_set_of_another_model_is_not_materialized(lab: DagsterLab) -> None:
    lab.write("fruit", 1, models=[FLUX, REALITY])
    past = Past(lab, "fruit")
    number = next(n for n, request in enumerate(past.requests) if request.model.resource == FLUX)
    past.submits(number, request_id=past.sends(number), at=ago())
    assert lab.run_collect().is_success
    assert lab.materialized(ASSET) == {"fruit"}
    assert lab.materialized(f"segmind/{REALITY}") == set()
