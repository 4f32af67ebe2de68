"""A project folder, a sandbox and the code location between them; runs happen in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb

from lab.project import REALITY, Project
from segmind_dagster.orchestration.build import build_definitions
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.sync import sync_partitions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from segmind_dagster.sandbox import SandboxServer
    from segmind_dagster.settings import Settings

USAGE = ("usage/by_model", "usage/by_prompt_set", "usage/by_day", "usage/by_failure", "usage/by_variable")
SPEND = (
    "spend/unexplained", "spend/paid_twice", "spend/not_held", "spend/cost_differences", "spend/balance",
    "spend/runway",
)  # fmt: skip
PAGES = ("gallery/page", "usage/report")
ACCOUNT = (
    "segmind/credits", "segmind/models", "segmind/model_changes", "segmind/models_page", "segmind/models_page_rows",
    "segmind/request_history",
)  # fmt: skip
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def asset_key(name: str) -> dg.AssetKey:
    """`segmind/credits` as a key."""
    return dg.AssetKey(name.split("/"))


class DagsterLab(Project):
    """One code location for one project against one sandbox.

    Args:
        server: a started sandbox.
        folder: the project folder.
        instance: where runs are recorded.
    """

    # v1 answers in the same exchange, so that a run takes no longer than its load
    model = REALITY

    def __init__(self, server: SandboxServer, folder: Path, instance: dg.DagsterInstance) -> None:
        super().__init__(server, folder)
        self.instance = instance
        self.segmind = SegmindResource(project_dir=str(folder), data_dir=str(self.data), api_url=server.url)
        self._jobs: dict[tuple[str, ...], dg.JobDefinition] = {}
        self.definitions = build_definitions(segmind=self.segmind, backfill_policy=dg.BackfillPolicy.single_run())

    def settings(self, **_: str) -> Settings:
        return self.segmind.load()

    def write(self, key: str, prompts: int | list[Any] = 2, /, **fields: Any) -> str:
        """A prompt file as every project has them, and its partition."""
        super().write(key, prompts, **fields)
        self.instance.add_dynamic_partitions("prompt_sets", [key])
        return key

    def write_text(self, name: str, text: str) -> str:
        """A prompt file as it is; its partition exists afterwards."""
        (self.prompts / name).write_text(text, encoding="utf-8")
        key = name.rsplit(".", 1)[0]
        self.instance.add_dynamic_partitions("prompt_sets", [key])
        return key

    def run(self, *assets: str, partition: str | None = None, tags: Mapping[str, str] | None = None) -> Run:
        """One Dagster run over these assets."""
        result = self._job(assets).execute_in_process(
            instance=self.instance,
            partition_key=partition,
            tags=tags,
            run_config=_QUIET,
            raise_on_error=False,
        )
        return Run(result, self.instance)

    def _job(self, assets: tuple[str, ...]) -> dg.JobDefinition:
        if assets not in self._jobs:
            # whatever fails is tried again unless it says that this is of no use
            again = dg.RetryPolicy(max_retries=1)
            job = dg.define_asset_job("run", [asset_key(name) for name in assets], op_retry_policy=again)
            with_job = dg.Definitions.merge(self.definitions, dg.Definitions(jobs=[job]))
            self._jobs[assets] = with_job.resolve_job_def("run")
        return self._jobs[assets]

    def run_range(self, first: str, last: str, *assets: str) -> Run:
        """One Dagster run over all partitions from one to another, as a backfill makes it."""
        return self.run(*assets, tags={RANGE_START: first, RANGE_END: last})

    def run_collect(self) -> Run:
        """One run of the job `collect`."""
        job = self.definitions.resolve_job_def("collect")
        result = job.execute_in_process(instance=self.instance, run_config=_QUIET, raise_on_error=False)
        return Run(result, self.instance)

    def sync(self) -> tuple[list[str], list[str], list[str]]:
        return sync_partitions(self.instance, self.segmind)

    def partitions(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions("prompt_sets"))

    def materialized(self, asset: str) -> set[str]:
        """Partitions that Dagster counts as materialized."""
        return set(self.instance.get_materialized_partitions(asset_key(asset)))

    def records(self, query: str) -> list[dict[str, Any]]:
        """Rows by name, of a query on the dataset."""
        with duckdb.connect(str(self.duckdb_path)) as connection:
            connection.execute("USE segmind_data")
            cursor = connection.execute(query)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


class Run:
    """What one run did, as the instance has recorded it."""

    def __init__(self, result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> None:
        self.run_id = result.run_id
        self.is_success = result.success
        self._events = [entry.dagster_event for entry in instance.all_logs(result.run_id) if entry.dagster_event]

    def figures(self, asset: str, partition: str | None = None) -> dict[str, Any]:
        """Metadata of the one materialization of an asset's partition, as plain values."""
        found = [
            event.step_materialization_data.materialization
            for event in self._materializations()
            if event.asset_key == asset_key(asset) and event.partition == partition
        ]
        assert len(found) == 1, f"{len(found)} materializations of {asset} [{partition}]; {self.errors()}"
        return {name: value.value for name, value in found[0].metadata.items()}

    def data_version(self, asset: str) -> str | None:
        for event in self._materializations():
            if event.asset_key == asset_key(asset):
                return (event.step_materialization_data.materialization.tags or {}).get("dagster/data_version")
        return None

    def materialized(self) -> set[tuple[str, str | None]]:
        """Asset and partition of every materialization."""
        return {(event.asset_key.to_user_string(), event.partition) for event in self._materializations()}

    def errors(self) -> list[str]:
        """What failed steps say."""
        return [event.step_failure_data.error_display_string for event in self._events if event.is_step_failure]

    def failure(self) -> str:
        """What the one failed step says to people; it was not tried again."""
        assert not self.is_success
        assert not any(event.is_step_up_for_retry for event in self._events), self.errors()
        (event,) = [event for event in self._events if event.is_step_failure]
        said = event.step_failure_data.user_failure_data
        assert said is not None, f"not a failure raised on purpose: {self.errors()}"
        return said.description or ""

    def _materializations(self) -> list[dg.DagsterEvent]:
        return [event for event in self._events if event.is_step_materialization]
