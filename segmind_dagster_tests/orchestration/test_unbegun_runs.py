"""Runs that died before they had recorded anything are asked for again, although the ledger knows nothing of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
from lab.dagster_project import RANGE_END, RANGE_START, asset_key
from lab.project import FLUX, REALITY, STICKER
from lab.sensors import STARTED, Ticks, ahead, record_run

from segmind_dagster.orchestration.sensors import REQUESTED_BY, build_failed_generations

if TYPE_CHECKING:
    from lab.dagster_project import DagsterLab

ASSET = f"segmind/{REALITY}"
PARTITION = "dagster/partition"
FAILURE, CANCELED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED


@pytest.fixture(autouse=True)
def _ledger(lab: DagsterLab) -> None:
    assert lab.run(ASSET, partition=lab.write("before", 1)).is_success


def later(lab: DagsterLab, minutes: float = 6) -> tuple[list[dg.RunRequest], str]:
    return Ticks(lab, build_failed_generations(clock=ahead(minutes=minutes))).tick()


def test_a_run_that_never_started_is_run_again_for_the_models_of_its_set(lab: DagsterLab) -> None:
    lab.write("fruit", 1, models=[REALITY, FLUX])
    record_run(lab, FAILURE, ASSET, f"segmind/{FLUX}", f"segmind/{STICKER}", tags={PARTITION: "fruit"})
    requests, reason = later(lab, minutes=0)
    assert not requests
    assert "died before it began; the next retry is at" in reason
    (request,), _ = later(lab)
    assert request.partition_key == "fruit"
    assert set(request.asset_selection or ()) == {asset_key(ASSET), asset_key(f"segmind/{FLUX}")}
    assert request.tags[REQUESTED_BY] == "failed_generations"
    assert lab.run(ASSET, f"segmind/{FLUX}", partition="fruit", tags=request.tags).is_success
    assert later(lab, minutes=60)[0] == []


def test_every_set_of_a_dead_range_run_gets_its_own_run(lab: DagsterLab) -> None:
    for key in ("apple", "fig"):
        lab.write(key, 1)
    record_run(lab, FAILURE, ASSET, tags={RANGE_START: "apple", RANGE_END: "fig"})
    assert [request.partition_key for request in later(lab)[0]] == ["apple", "fig"]


def test_the_same_run_is_requested_until_it_ended_and_six_are_the_limit(lab: DagsterLab) -> None:
    lab.write("fruit", 1)
    keys = set()
    for n in range(6):
        record_run(lab, FAILURE, ASSET, tags={PARTITION: "fruit"})
        requests, reason = later(lab, minutes=5 * 2**n + 1)
        assert {request.run_key for request in requests} == {request.run_key for request in later(lab, 5 * 2**n + 1)[0]}
        keys |= {request.run_key for request in requests}
    assert len(keys) == 5
    assert "as 5 had before it; see why, then materialize it by hand" in reason


def test_a_run_whose_code_failed_is_left_to_people(lab: DagsterLab) -> None:
    lab.write_text("fruit.yaml", "models: [")
    assert not lab.run(ASSET, partition="fruit").is_success
    lab.write("fruit", 1)
    assert later(lab)[0] == []


def test_partitions_that_run_were_stopped_or_have_no_file_are_left_alone(lab: DagsterLab) -> None:
    for key in ("running", "stopped", "broken"):
        lab.write(key, 1)
        record_run(lab, FAILURE, ASSET, tags={PARTITION: key})
    record_run(lab, STARTED, ASSET, tags={PARTITION: "running"})
    record_run(lab, CANCELED, ASSET, tags={PARTITION: "stopped"})
    lab.write_text("broken.yaml", "models: [")
    assert later(lab)[0] == []
