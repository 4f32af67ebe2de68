"""The checks of prompt files, of the account's data, and of what waits at Segmind; and what runs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from lab.checks import recorded, run_checks
from lab.dagster_project import ACCOUNT, SPEND, DagsterLab
from lab.project import REALITY
from sqlalchemy import update

from segmind_dagster.data_folder import opened
from segmind_dagster.definitions import defs
from segmind_dagster.ledger.schema import GENERATIONS
from segmind_dagster.orchestration.checks import CHECKS
from segmind_dagster.registry import MODELS

if TYPE_CHECKING:
    from pathlib import Path

ASSET = f"segmind/{REALITY}"
FILE = ("prompt_set", "file_is_current")
WAITING = (ASSET, "nothing_about_to_expire")
STANDING = {
    *((f"segmind/{model.resource}", "nothing_about_to_expire") for model in MODELS),
    ("segmind/credits", "loaded_lately"),
    ("segmind/request_history", "loaded_lately"),
}


def test_a_file_is_green_when_materialized_and_a_warning_once_it_changes(lab: DagsterLab) -> None:
    key = lab.write("fruit", 2)
    assert lab.run("prompt_set", partition=key).is_success
    green = recorded(lab, *FILE, key)
    assert (green.status, green.is_current) == ("SUCCEEDED", True)
    lab.write("fruit", 3)
    assert run_checks(lab, FILE, partition=key)
    changed = recorded(lab, *FILE, key)
    assert (changed.status, changed.severity) == ("FAILED", "WARN")
    assert "has changed since it was materialized" in changed.said
    assert lab.run("prompt_set", partition=key).is_success
    assert recorded(lab, *FILE, key).status == "SUCCEEDED"


def test_a_broken_file_is_red_on_the_asset_with_the_location_of_the_error(lab: DagsterLab) -> None:
    key = lab.write("fruit", 2)
    assert lab.run("prompt_set", partition=key).is_success
    lab.write_text("fruit.yaml", "models: [sdxl_newreality]\nprompts: [a pear]\nsampels: 2\n")
    run = lab.run("prompt_set", partition=key)
    assert "sampels" in run.failure()
    red = recorded(lab, *FILE, key)
    assert (red.status, red.severity, red.run_id, red.is_current) == ("FAILED", "ERROR", run.run_id, True)
    assert "fruit.yaml" in red.said
    assert "sampels" in red.said
    assert "Traceback" not in red.said


def test_a_file_that_is_gone_is_red_and_one_never_materialized_is_not(lab: DagsterLab) -> None:
    lab.write("apple", 1)
    lab.write("fruit", 1)
    (lab.prompts / "fruit.yaml").unlink()
    for key in ("apple", "fruit"):
        assert run_checks(lab, FILE, partition=key)
    assert "not been materialized yet" in recorded(lab, *FILE, "apple").said
    assert recorded(lab, *FILE, "fruit").status == "FAILED"
    assert "there is no prompt set 'fruit'" in recorded(lab, *FILE, "fruit").said


def test_outputs_waiting_at_segmind_for_five_days_are_an_error_with_cost_and_command(lab: DagsterLab) -> None:
    key = lab.write("fruit", 1)
    lab.run(ASSET, partition=key)
    (generation,) = lab.generations()
    with opened(lab.segmind.load()) as (ledger, _):
        long_ago = datetime.now(UTC) - timedelta(days=5, hours=1)
        values = {"state": "submitted", "output_uri": None, "submitted_at": long_ago, "owner": None}
        ledger.write(lambda connection: connection.execute(update(GENERATIONS).values(**values)))
    # the file is gone, its partition too: the money is not
    (lab.prompts / "fruit.yaml").unlink()
    lab.sync()
    assert run_checks(lab, WAITING)
    red = recorded(lab, *WAITING)
    assert (red.status, red.severity) == ("FAILED", "ERROR")
    assert red.said.startswith("1 output worth $")
    assert "segmind-dagster collect" in red.said
    assert red.figures["at stake (USD)"] == float(lab.charged_usd)
    assert [(row["prompt set"], row["generation"]) for row in red.sample] == [(key, generation["generation_id"])]


def test_account_data_is_expected_to_be_fresh_only_while_its_schedule_runs(lab: DagsterLab, tmp_path: Path) -> None:
    credits_ = ("segmind/credits", "loaded_lately")
    # an instance in memory keeps no schedules: there none is on
    assert run_checks(lab, credits_)
    assert recorded(lab, *credits_).status == "SUCCEEDED"
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        lasting = DagsterLab(lab.server, tmp_path / "lasting", instance)
        assert run_checks(lasting, credits_)
        off = recorded(lasting, *credits_)
        assert off.status == "SUCCEEDED"
        assert "never loaded" in off.said
        assert "`account_refresh` is off" in off.said
        start_schedule(lasting)
        assert run_checks(lasting, credits_)
        red = recorded(lasting, *credits_)
        assert (red.status, red.severity) == ("FAILED", "WARN")
        assert lasting.run(*ACCOUNT).is_success
        assert recorded(lasting, *credits_).status == "SUCCEEDED"


def test_without_a_reason_no_check_run_is_started_and_in_the_morning_one_is(lab: DagsterLab) -> None:
    def tick(at: datetime, cursor: object = None) -> dg.EvaluateAutomationConditionsResult:
        return dg.evaluate_automation_conditions(
            defs=lab.definitions, instance=lab.instance, asset_selection=dg.AssetSelection.all(),
            evaluation_time=at, cursor=cursor,
        )  # fmt: skip

    lab.write("fruit", 1)
    evening = tick(datetime(2026, 3, 1, 20, tzinfo=UTC))
    morning = tick(datetime(2026, 3, 2, 6, 1, tzinfo=UTC), evening.cursor)
    later = tick(datetime(2026, 3, 2, 6, 2, tzinfo=UTC), morning.cursor)
    in_the_morning = {(key.asset_key.to_user_string(), key.name) for key in requested(morning)}
    assert in_the_morning == STANDING
    assert requested(evening) == requested(later) == set()


def test_every_check_is_described_and_none_of_them_blocks() -> None:
    specs = [spec for check in CHECKS for spec in check.check_specs]
    assert len({spec.key for spec in specs}) == len(specs) == 1 + 5 * len(MODELS) + 3
    assert all(spec.description and not spec.blocking for spec in specs)
    graph = defs.resolve_asset_graph()
    # a comparison's check is answered by the step that compares
    own = {key for key in graph.asset_check_keys if key.asset_key.path[0] == "spend"}
    assert {spec.key for spec in specs} == set(graph.asset_check_keys) - own
    assert len(own) == len(SPEND)
    partitioned = {spec.name for spec in specs if spec.partitions_def is not None}
    assert partitioned == {
        "file_is_current", "all_stored", "files_match", "spend_under_budget", "charged_once",
    }  # fmt: skip


def requested(result: dg.EvaluateAutomationConditionsResult) -> set[dg.AssetCheckKey]:
    return {
        each.key for each in result.results if isinstance(each.key, dg.AssetCheckKey) and not each.true_subset.is_empty
    }


def start_schedule(lab: DagsterLab) -> None:
    """The switch in the UI, as the instance remembers it."""
    from dagster._core.remote_origin import (
        InProcessCodeLocationOrigin,
        RemoteInstigatorOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        InstigatorType,
        ScheduleInstigatorData,
    )
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="segmind_dagster.definitions"))
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), "account_refresh")
    lab.instance.add_instigator_state(
        InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, ScheduleInstigatorData("15 5 * * *"))
    )
