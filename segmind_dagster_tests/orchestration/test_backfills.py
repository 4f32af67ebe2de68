"""Backfills as the UI asks for them: through GraphQL, by the daemon's own code, in real run processes."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster_graphql.test.utils import execute_dagster_graphql
from lab.dagster_project import ACCOUNT, asset_key
from lab.project import FLUX, REALITY

from bench.backfill_books import most_at_once, read_rows, read_runs, spans_by_run, stored_state
from segmind_dagster.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import OpenLab
    from dagster._core.workspace.context import WorkspaceProcessContext
    from lab.dagster_project import DagsterLab

SETS, AT_A_TIME, PROMPTS = 6, 3, 2
LOCATION = "segmind_dagster"
YAML = """\
telemetry: {{enabled: false}}
concurrency: {{runs: {{max_concurrent_runs: {at_a_time}}}}}
"""
BACKFILL = """
mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
RUN = """
mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
LATEST = """
query($key: AssetKeyInput!, $partitions: [String!]) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  latestMaterializationByPartition(partitions: $partitions) { partition runId metadataEntries { label
    ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue }
    ... on MarkdownMetadataEntry { mdStr } } } } } }"""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A workspace and a Dagster home, whose daemons take a step when they are told to."""

    home: Path
    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = execute_dagster_graphql(self.workspace.create_request_context(), query, variables)
        (found,) = answer.data.values()
        return dict(found)

    def backfill(self, assets: list[str], keys: list[str]) -> str:
        params = {"assetSelection": [{"path": asset.split("/")} for asset in assets], "partitionNames": keys}
        backfill_id: str = self.ask(BACKFILL, params=params)["backfillId"]
        return backfill_id

    def run(self, *assets: str) -> str:
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": asset.split("/")} for asset in assets],
        }
        run_id: str = self.ask(RUN, params={"selector": selector, "mode": "default"})["run"]["runId"]
        return run_id

    def work_until_over(self, backfill_id: str) -> None:
        """Let the daemons step until the backfill and every run are over."""
        until = time.monotonic() + 200
        with QueuedRunCoordinatorDaemon(interval_seconds=1) as queue:
            while time.monotonic() < until:
                list(execute_backfill_iteration(self.workspace, logging.getLogger("daemon")))
                list(queue.run_iteration(self.workspace))
                backfill = self.instance.get_backfill(backfill_id)
                runs = self.instance.get_runs()
                is_over = backfill is not None and backfill.status.value.startswith(("COMPLETED", "FAILED"))
                if is_over and all(run.is_finished for run in runs):
                    return
                time.sleep(0.3)  # the runs are processes of their own, in real time
        pytest.fail(f"not over: {[(run.run_id, run.status) for run in self.instance.get_runs()]}")

    def latest(self, asset: str, keys: list[str]) -> dict[str, dict[str, Any]]:
        """By partition, what the UI shows of its latest materialization; nothing for one that has none."""
        node = self.ask(LATEST, key={"path": asset.split("/")}, partitions=keys)
        return {
            event["partition"]: {
                entry["label"]: entry.get("intValue", entry.get("floatValue", entry.get("mdStr")))
                for entry in event["metadataEntries"]
            }
            for event in node["latestMaterializationByPartition"]
            if event is not None
        }


@contextmanager
def daemon(lab: DagsterLab, monkeypatch: pytest.MonkeyPatch, *, keys: list[str], **environ: str) -> Iterator[Daemon]:
    """A code server over the code location, in a process of its own, and a Dagster home."""
    home = lab.folder / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text(YAML.format(at_a_time=AT_A_TIME))
    ours = {
        "DAGSTER_HOME": str(home),
        "SEGMIND_PROJECT_DIR": str(lab.folder),
        "SEGMIND_API_URL": lab.server.url,
        **environ,
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    target = ModuleTarget("segmind_dagster.definitions", None, str(Path.cwd()), LOCATION)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions("prompt_sets", keys)
        with create_test_daemon_workspace_context(target, instance) as workspace:
            yield Daemon(home, instance, workspace)


def backfill_everything(
    lab: DagsterLab, monkeypatch: pytest.MonkeyPatch, destination: str, warehouse: str, **environ: str
) -> None:
    """Six sets and two models, three runs at a time, and the account's run in between: nothing fails or is missing."""
    keys = [f"set_{n}" for n in range(SETS)]
    for key in keys:
        lab.write(key, PROMPTS, models=[REALITY, FLUX])
    models = [f"segmind/{FLUX}", f"segmind/{REALITY}"]
    with daemon(lab, monkeypatch, keys=keys, SEGMIND_BACKFILL="runs", **environ) as dagster:
        backfill_id = dagster.backfill(models, keys)
        account = dagster.run(*ACCOUNT)
        dagster.work_until_over(backfill_id)
        of_account = dagster.instance.get_run_by_id(account)
        assert of_account is not None
        assert of_account.is_success
    runs = read_runs(dagster.home, backfill_id, models)
    assert (runs.count, runs.failed) == (SETS, 0), runs.failure
    assert runs.partitions == dict.fromkeys(models, SETS)
    rows = read_rows(warehouse, "segmind_data", [FLUX, REALITY])
    assert rows.counts == dict.fromkeys([FLUX, REALITY], SETS * PROMPTS)
    assert lab.server.account()["charges"] == 2 * SETS * PROMPTS
    # the runs generate side by side, and load one after the other
    assert most_at_once(spans_by_run(rows.generations).values()) >= 2
    assert (len(runs.loads), most_at_once(runs.loads)) == (SETS, 1)
    # whoever loaded last has kept what all the others had
    tables, state = stored_state("segmind", destination, "segmind_data", lab.folder)
    assert {model.resource for model in MODELS} | {"attempts"} <= tables
    assert {name.partition("/")[2] for name in ACCOUNT} <= tables
    # how far the history was read, by API and account
    assert state["segmind"]["resources"]["request_history"][lab.server.url]["read_at"]


@pytest.mark.kill
def test_a_backfill_three_runs_at_a_time_into_duckdb(open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = open_lab(fixed_latency_s=10.0)
    path = str(lab.data / "segmind.duckdb")
    backfill_everything(lab, monkeypatch, "duckdb", path, DESTINATION__DUCKDB__CREDENTIALS=path)


@pytest.mark.postgres
def test_a_backfill_three_runs_at_a_time_into_postgresql_with_the_ledger_there_too(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    lab = open_lab(fixed_latency_s=10.0)
    url = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    backfill_everything(
        lab,
        monkeypatch,
        "sqlalchemy",
        url,
        SEGMIND_LEDGER_URL=postgres_url,
        SEGMIND_DESTINATION="sqlalchemy",
        DESTINATION__SQLALCHEMY__CREDENTIALS=url,
    )


@pytest.mark.kill
def test_a_single_run_backfill_has_one_run_per_range_and_metadata_per_partition(
    lab: DagsterLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["apple", "fig", "kiwi", "pear", "plum"]
    for prompts, key in enumerate(keys, start=1):
        lab.write(key, prompts)
    asset = f"segmind/{REALITY}"
    chosen = ["apple", "fig", "pear", "plum"]
    with daemon(lab, monkeypatch, keys=keys, SEGMIND_BACKFILL="single_run") as dagster:
        dagster.work_until_over(dagster.backfill([asset], chosen))
        runs = dagster.instance.get_runs()
        ranges = {
            tuple(run.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end")): run for run in runs
        }
        assert set(ranges) == {("apple", "fig"), ("pear", "plum")}
        assert all(run.is_success for run in runs)
        shown = dagster.latest(asset, keys)
    assert {key: entries["generations"] for key, entries in shown.items()} == {
        "apple": 1, "fig": 2, "pear": 4, "plum": 5,
    }  # fmt: skip
    for key, entries in shown.items():
        (bought,) = lab.records(f"SELECT sum(cost_usd) AS usd FROM {REALITY} WHERE prompt_set = '{key}'")
        assert entries["cost of this run (USD)"] == float(bought["usd"])
        assert f"{key} number 0" in entries["contact sheet"]
        assert not any(f"{other} number" in entries["contact sheet"] for other in keys if other != key)


@pytest.mark.kill
def test_a_single_run_backfill_materializes_only_complete_partitions(
    lab: DagsterLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["apple", "fig", "kiwi"]
    lab.write("apple", 1)
    lab.write("fig", 5, budget_usd=0.001)
    lab.write("kiwi", 2)
    asset = f"segmind/{REALITY}"
    with daemon(lab, monkeypatch, keys=keys, SEGMIND_BACKFILL="single_run") as dagster:
        backfill_id = dagster.backfill([asset], keys)
        dagster.work_until_over(backfill_id)
        (run,) = dagster.instance.get_runs()
        assert run.status == dg.DagsterRunStatus.FAILURE
        assert "'fig'" in read_runs(dagster.home, backfill_id, [asset]).failure
        shown = dagster.latest(asset, keys)
        assert dagster.instance.get_materialized_partitions(asset_key(asset)) == {"apple", "kiwi"}
    assert {key: entries["generations succeeded"] for key, entries in shown.items()} == {"apple": 1, "kiwi": 2}


@pytest.mark.kill
def test_a_backfill_over_prompt_sets_too_validates_each_in_a_run_of_its_own_before_its_models_run(
    lab: DagsterLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["apple", "fig"]
    for prompts, key in enumerate(keys, start=1):
        lab.write(key, prompts)
    asset = f"segmind/{REALITY}"
    with daemon(lab, monkeypatch, keys=keys, SEGMIND_BACKFILL="single_run") as dagster:
        dagster.work_until_over(dagster.backfill(["prompt_set", asset], keys))
        runs = dagster.instance.get_runs()
        assert all(run.is_success for run in runs)
        validated = [run.tags["dagster/partition"] for run in runs if asset_key("prompt_set") in run.asset_selection]
        assert sorted(validated) == keys
        assert {asset_key(asset)} in [run.asset_selection for run in runs]
        shown = dagster.latest(asset, keys)
    assert {key: entries["generations"] for key, entries in shown.items()} == {"apple": 1, "fig": 2}
    assert lab.server.account()["charges"] == 3
