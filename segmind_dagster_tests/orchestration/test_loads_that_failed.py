"""What is stored and could not be loaded is seen, said, and loaded by another run, which buys nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
from lab.dagster_project import RANGE_END, RANGE_START, asset_key
from lab.project import FLUX, REALITY
from lab.sensors import STARTED, Past, Ticks, ago, ahead, record_run

from segmind_dagster.orchestration.loads import LOAD
from segmind_dagster.orchestration.sensors import build_failed_generations, failed_generations

if TYPE_CHECKING:
    from pathlib import Path

    from lab.dagster_project import DagsterLab, Run

ASSET = f"segmind/{REALITY}"


@pytest.fixture
def warehouse(lab: DagsterLab) -> Path:
    """The DuckDB file, in whose place stands a folder for now: nothing can be loaded."""
    path = lab.data / "segmind.duckdb"
    path.mkdir(parents=True)
    return path


def verdicts(lab: DagsterLab, run: Run, resource: str = REALITY) -> dict[str | None, tuple[bool, str]]:
    """By partition, what the check `all_stored` said in a run."""
    check = dg.AssetCheckKey(asset_key(f"segmind/{resource}"), "all_stored")
    events = [entry.dagster_event for entry in lab.instance.all_logs(run.run_id) if entry.dagster_event]
    found = [event.event_specific_data for event in events if event.event_type_value == "ASSET_CHECK_EVALUATION"]
    return {each.partition: (each.passed, each.description or "") for each in found if each.asset_check_key == check}


def test_a_failed_load_is_reported_by_the_run_and_the_check(lab: DagsterLab, warehouse: Path) -> None:
    run = lab.run(ASSET, partition=lab.write("fruit", 2))
    message = run.failure()
    assert message.startswith("What was generated is stored, but could not be loaded: ")
    assert "Nothing is lost, and loading it buys nothing" in message
    assert [row["state"] for row in lab.generations()] == ["succeeded", "succeeded"]
    assert lab.materialized(ASSET) == set()
    passed, said = verdicts(lab, run)["fruit"]
    assert not passed
    assert said.startswith(f"Run {run.run_id[:8]} ended before it had loaded what it stored")
    assert "2 of 2 generations are stored" in said


def test_the_sensor_reruns_a_failed_load_and_buys_nothing(lab: DagsterLab, warehouse: Path) -> None:
    failed = lab.run(ASSET, partition=lab.write("fruit", 2))
    posts = lab.posts
    assert f"Stored but not loaded by run {failed.run_id[:8]}: 'fruit'" in Ticks(lab, failed_generations).reason()
    (request,), _ = Ticks(lab, build_failed_generations(clock=ahead(minutes=6))).tick()
    assert (request.partition_key, request.asset_selection) == ("fruit", [asset_key(ASSET)])
    assert request.tags["segmind/attempt"] == "2"
    warehouse.rmdir()
    run = lab.run(ASSET, partition="fruit", tags=request.tags)
    assert run.is_success
    assert lab.posts == posts
    assert lab.records(f"SELECT count(*) AS rows FROM {REALITY}") == [{"rows": 2}]
    assert Ticks(lab, build_failed_generations(clock=ahead(days=2))).reason() == "Nothing is left to do."


def test_the_pause_doubles_and_six_runs_are_the_limit(lab: DagsterLab, warehouse: Path) -> None:
    tags: dict[str, str] = {}
    key = lab.write("fruit", 1)
    for attempt in range(1, 7):
        assert not lab.run(ASSET, partition=key, tags=tags).is_success
        minutes = 5 * 2 ** (attempt - 1)
        early = Ticks(lab, build_failed_generations(clock=ahead(minutes=minutes - 1)))
        assert early.tick()[0] == []
        requests, reason = Ticks(lab, build_failed_generations(clock=ahead(minutes=minutes + 1))).tick()
        if attempt < 6:
            (request,) = requests
            tags = dict(request.tags)
    assert requests == []
    assert f"6 runs could not load 'fruit' / {REALITY}" in reason
    assert lab.posts == 1


def test_each_set_of_a_range_run_is_loaded_again(lab: DagsterLab, warehouse: Path) -> None:
    for key in ("apple", "pear"):
        lab.write(key, 1)
    assert not lab.run_range("apple", "pear", ASSET).is_success
    ticks = Ticks(lab, build_failed_generations(clock=ahead(minutes=6)))
    assert ticks.partitions() == ["apple", "pear"]
    warehouse.rmdir()
    assert lab.run(ASSET, partition="apple").is_success
    assert ticks.partitions() == ["pear"]


def test_a_run_that_died_while_loading_counts_as_failed(lab: DagsterLab) -> None:
    key = lab.write("fruit", 1)
    assert lab.run(ASSET, partition=key).is_success
    tags = {"dagster/partition": key, LOAD: "due"}
    record_run(lab, dg.DagsterRunStatus.FAILURE, ASSET, tags=tags)
    (request,), _ = Ticks(lab, build_failed_generations(clock=ahead(minutes=6))).tick()
    assert request.partition_key == key


@pytest.mark.parametrize("status", [STARTED, dg.DagsterRunStatus.CANCELED])
def test_runs_that_still_load_or_were_stopped_are_left_alone(lab: DagsterLab, status: dg.DagsterRunStatus) -> None:
    first, last = lab.write("apple", 1), lab.write("pear", 1)
    assert lab.run_range(first, last, ASSET).is_success
    record_run(lab, status, ASSET, tags={RANGE_START: first, RANGE_END: last, LOAD: "due"})
    assert Ticks(lab, build_failed_generations(clock=ahead(minutes=6))).tick()[0] == []


def test_a_set_edited_since_the_failed_load_waits_for_a_person(lab: DagsterLab, warehouse: Path) -> None:
    lab.run(ASSET, partition=lab.write("fruit", ["a pear"]))
    lab.write("fruit", ["a pear", "a golden pear"])
    reason = Ticks(lab, build_failed_generations(clock=ahead(minutes=6))).reason()
    assert "'fruit' has changed since its last run" in reason


def paid_and_left(lab: DagsterLab, *keys: str) -> None:
    """What a run has bought for these sets and left at the provider when it died."""
    for key in keys:
        lab.write(key, 2, models=[FLUX])
        past = Past(lab, key)
        for number in range(2):
            past.submits(number, request_id=past.sends(number), at=ago())
        past.leases("gone", ago())


def test_collected_outputs_that_failed_to_load_are_reported_by_the_run_and_the_check(
    lab: DagsterLab, warehouse: Path
) -> None:
    paid_and_left(lab, "fruit")
    run = lab.run_collect()
    message = run.failure()
    assert message.startswith("What was collected is in the ledger and its files are stored, but")
    assert "Not loaded: fruit." in message
    assert "buys nothing: the sensor failed_generations" in message
    assert [row["state"] for row in lab.generations()] == ["succeeded", "succeeded"]
    passed, said = verdicts(lab, run, FLUX)["fruit"]
    assert not passed
    assert said.startswith(f"Run {run.run_id[:8]} ended before it had loaded what it stored")


def test_the_sensor_loads_collected_outputs_and_buys_nothing(lab: DagsterLab, warehouse: Path) -> None:
    paid_and_left(lab, "fruit")
    posts = lab.posts
    assert not lab.run_collect().is_success
    (request,), _ = Ticks(lab, build_failed_generations(clock=ahead(minutes=6))).tick()
    assert (request.partition_key, request.asset_selection) == ("fruit", [asset_key(f"segmind/{FLUX}")])
    warehouse.rmdir()
    assert lab.run(f"segmind/{FLUX}", partition="fruit", tags=request.tags).is_success
    assert lab.posts == posts
    assert lab.records(f"SELECT count(*) AS rows FROM {FLUX}") == [{"rows": 2}]
    assert Ticks(lab, build_failed_generations(clock=ahead(days=2))).reason() == "Nothing is left to do."


def test_a_loaded_collection_is_not_loaded_again(lab: DagsterLab) -> None:
    paid_and_left(lab, "fruit")
    assert lab.run_collect().is_success
    assert Ticks(lab, build_failed_generations(clock=ahead(days=2))).reason() == "Nothing is left to do."


def test_outputs_collected_for_another_set_are_loaded_after_a_failed_load(lab: DagsterLab, warehouse: Path) -> None:
    paid_and_left(lab, "pear")
    assert not lab.run(ASSET, partition=lab.write("apple", 1)).is_success
    assert Ticks(lab, build_failed_generations(clock=ahead(minutes=6))).partitions() == ["apple", "pear"]


def test_collecting_and_loading_failures_are_one_message(lab: DagsterLab, warehouse: Path) -> None:
    paid_and_left(lab, "fruit")
    lab.server.stop()
    message = lab.run_collect().failure()
    assert "Check the network and SEGMIND_API_URL" in message
    assert "it could not be loaded" in message
