"""What sensors rely on elsewhere: runs of theirs do not count as a person's, and balances are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.project import REALITY
from lab.sensors import Past, Ticks, ago

from segmind_dagster.data_folder import opened
from segmind_dagster.ledger import sensor_reads
from segmind_dagster.orchestration.sensors import REQUESTED_BY, failed_generations, low_balance
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    import pytest
    from conftest import OpenLab
    from lab.dagster_project import DagsterLab

ASSET = f"segmind/{REALITY}"
BY_SENSOR = {REQUESTED_BY: "failed_generations"}


def test_a_sensor_run_skips_permanent_failures_and_a_persons_run_retries_once(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["invalid"]))
    lab.run(ASSET, partition=lab.write("fruit", 1))
    assert lab.run(ASSET, partition="fruit", tags=BY_SENSOR).is_success
    assert lab.posts == 1
    assert lab.run(ASSET, partition="fruit").is_success
    assert lab.posts == 2


def test_a_sensor_run_skips_what_failed_in_enough_runs(lab: DagsterLab) -> None:
    lab.write("fruit", 2)
    past = Past(lab, "fruit")
    past.fails(0, runs=6)
    past.fails(1)
    assert lab.run(ASSET, partition="fruit", tags=BY_SENSOR).is_success
    assert sorted(row["state"] for row in lab.generations()) == ["failed", "succeeded"]
    assert lab.run(ASSET, partition="fruit").is_success
    assert {row["state"] for row in lab.generations()} == {"succeeded"}


def test_the_balance_is_recorded_by_runs_and_by_the_credits_asset(open_lab: OpenLab) -> None:
    lab = open_lab(initial_credits=3)
    lab.run("segmind/credits")
    with opened(lab.segmind.load()) as (ledger, _):
        first = ledger.read(sensor_reads.balance)
    assert first is not None
    assert first.balance_usd == 3
    assert "less than $5 (SEGMIND_LOW_BALANCE_USD)" in Ticks(lab, low_balance).reason()
    lab.run(ASSET, partition=lab.write("fruit", 1))
    with opened(lab.segmind.load()) as (ledger, _):
        second = ledger.read(sensor_reads.balance)
    assert second is not None
    assert second.observed_at > first.observed_at


def test_the_first_pause_is_a_setting(lab: DagsterLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.write("fruit", 1)
    Past(lab, "fruit").fails(0, at=ago(seconds=30))
    assert "next retry is at" in Ticks(lab, failed_generations).reason()
    monkeypatch.setenv("SEGMIND_RETRY_AFTER_SECONDS", "10")
    assert Ticks(lab, failed_generations).partitions() == ["fruit"]
