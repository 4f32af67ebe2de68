"""Schedules: shipped stopped, with a time zone, and asking for the runs they say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from lab.checks import recorded

from segmind_dagster.orchestration.schedules import account_refresh, check_refresh, prompt_set_refresh

if TYPE_CHECKING:
    from lab.dagster_project import DagsterLab

REALITY_ASSET = "segmind/sdxl_newreality"
SCHEDULES = [account_refresh, check_refresh, prompt_set_refresh]
MONDAY = datetime(2026, 11, 23, 6, tzinfo=UTC)


def ticked(lab: DagsterLab) -> list[dg.RunRequest | dg.SkipReason]:
    # a schedule's context opens its instance itself, which an ephemeral one does not allow
    home = lab.folder / "dagster"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        instance.add_dynamic_partitions("prompt_sets", sorted(lab.partitions()))
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=MONDAY, resources={"segmind": lab.segmind}
        )
        with context:
            return list(prompt_set_refresh(context))


@pytest.mark.parametrize(
    "schedule", [account_refresh, check_refresh, prompt_set_refresh], ids=lambda schedule: schedule.name
)
def test_a_schedule_ships_stopped_and_states_its_time_zone(schedule: dg.ScheduleDefinition) -> None:
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.execution_timezone == "UTC"


def test_every_set_is_refreshed_once_a_monday(lab: DagsterLab) -> None:
    for key in ("pear", "apple"):
        lab.write(key)
    requests = ticked(lab)
    assert [(each.partition_key, each.run_key) for each in requests if isinstance(each, dg.RunRequest)] == [
        ("apple", "2026-11-23T06:00/apple"),
        ("pear", "2026-11-23T06:00/pear"),
    ]


def test_only_chosen_sets_are_refreshed_and_one_that_is_gone_is_left_out(
    lab: DagsterLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("pear", "apple"):
        lab.write(key)
    monkeypatch.setenv("SEGMIND_REFRESH_SETS", "pear, quince")
    assert [each.partition_key for each in ticked(lab) if isinstance(each, dg.RunRequest)] == ["pear"]


def test_without_any_set_the_tick_is_skipped_with_a_reason(lab: DagsterLab) -> None:
    (skipped,) = ticked(lab)
    assert isinstance(skipped, dg.SkipReason)


def test_the_runs_cover_the_prompt_set_and_every_model(lab: DagsterLab) -> None:
    schedule = lab.definitions.resolve_schedule_def("prompt_set_refresh")
    job = lab.definitions.resolve_job_def(schedule.job_name)
    names = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert {"prompt_set", "segmind/fast_flux_schnell", "segmind/sdxl_newreality"} <= names
    assert not any(name.startswith(("usage/", "segmind/credits")) for name in names)


def test_an_output_lost_after_a_green_check_turns_it_red_the_next_morning(lab: DagsterLab) -> None:
    for key in ("pear", "apple"):
        assert lab.run(REALITY_ASSET, partition=lab.write(key)).is_success
    lost = Path(next(row["output_uri"] for row in lab.generations() if row["prompt_set"] == "pear"))
    lost.unlink()
    posts = lab.posts
    job = lab.definitions.resolve_job_def(lab.definitions.resolve_schedule_def("check_refresh").job_name)
    assert job.execute_in_process(instance=lab.instance).success
    assert recorded(lab, REALITY_ASSET, "files_match", "pear").status == "FAILED"
    assert recorded(lab, REALITY_ASSET, "files_match", "apple").status == "SUCCEEDED"
    assert recorded(lab, REALITY_ASSET, "charged_once", "pear").status == "SUCCEEDED"
    assert recorded(lab, "prompt_set", "file_is_current", "apple").said
    assert lab.posts == posts
