"""What a backfill left behind, read after it is over: Dagster's runs and events, the rows, dlt's stored schema.

Only reads; what the figures should be is `bench.backfill`'s business.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg  # noqa: TID251  reads what Dagster keeps
import dlt
from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_LAUNCHED = dg.DagsterEventType.PIPELINE_STARTING
_LOADED = dg.DagsterEventType.ASSET_MATERIALIZATION


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The runs of a backfill.

    Args:
        count: how many.
        failed: how many did not succeed.
        wall_s: from the moment the first was queued to the end of the last; Dagster's daemon looks for work in
            between backfill and runs only every half minute, which says nothing about either.
        partitions: materialized ones by asset.
        launched: by run id, when it was launched.
        loads: from when to when a run loaded.
        waited: log lines about waiting for the load lock.
        failure: what the first failed one says.
    """

    count: int
    failed: int
    wall_s: float
    partitions: dict[str, int]
    launched: dict[str, float]
    loads: list[tuple[float, float]]
    waited: list[str]
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is in the warehouse.

    Args:
        counts: rows by table; 0 where there is no table.
        generations: run id, submission and completion of every row that has them.
    """

    counts: dict[str, int]
    generations: list[tuple[str, float, float]]


def read_runs(home: Path, backfill_id: str, assets: Iterable[str]) -> Runs:
    """Runs and events of one backfill, from Dagster's own storage."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        records = instance.get_run_records(dg.RunsFilter(tags={"dagster/backfill": backfill_id}))
        runs = [record.dagster_run for record in records]
        launched: dict[str, float] = {}
        loads: set[tuple[float, float]] = set()
        waited: list[str] = []
        failure = ""
        for run in runs:
            for entry in instance.all_logs(run.run_id):
                if entry.user_message.startswith("Waiting for"):
                    waited.append(entry.user_message)
                event = entry.dagster_event
                if event is None:
                    continue
                if event.event_type == _LAUNCHED:
                    launched[run.run_id] = entry.timestamp
                elif event.event_type == _LOADED:
                    loads |= _load(event.step_materialization_data.materialization.metadata)
                elif event.is_step_failure and not failure:
                    failure = _last_line(event.step_failure_data.error_display_string)
        return Runs(
            count=len(runs),
            wall_s=max(record.end_time or 0 for record in records)
            - min(record.create_timestamp.timestamp() for record in records),
            failed=sum(run.status != dg.DagsterRunStatus.SUCCESS for run in runs),
            partitions={
                name: len(instance.get_materialized_partitions(dg.AssetKey(name.split("/")))) for name in assets
            },
            launched=launched,
            loads=sorted(loads),
            waited=waited,
            failure=failure,
        )


def read_rows(url: str, dataset: str, tables: Sequence[str]) -> Rows:
    """Rows of these tables; `url` is SQLAlchemy's, or the path of a DuckDB file."""
    counts: dict[str, int] = {}
    generations: list[tuple[str, float, float]] = []
    for table in tables:
        found = _query(url, f"SELECT run_id, submitted_at, completed_at FROM {dataset}.{table}")  # noqa: S608  our names
        counts[table] = len(found)
        generations += [(row[0], _epoch(row[1]), _epoch(row[2])) for row in found if row[1] and row[2]]
    return Rows(counts=counts, generations=generations)


def stored_state(name: str, destination: str, dataset: str, folder: Path) -> tuple[set[str], dict[str, Any]]:
    """Tables of the schema that the destination keeps, and the state beside it, as another machine finds them."""
    pipeline = dlt.pipeline(
        name, destination=destination, dataset_name=dataset, pipelines_dir=str(folder / "elsewhere")
    )
    pipeline.sync_destination()
    tables = {table for schema in pipeline.schemas.values() for table in schema.data_table_names(seen_data_only=True)}
    return tables, dict(pipeline.state.get("sources", {}))


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """How many spans share one moment; one that ends as another begins does not."""
    steps = sorted(step for begin, end in spans for step in ((begin, 1), (end, -1)))
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def spans_by_run(generations: Iterable[tuple[str, float, float]]) -> dict[str, tuple[float, float]]:
    """From the first submission of each run to its last completion."""
    spans: dict[str, tuple[float, float]] = {}
    for run_id, begin, end in generations:
        first, last = spans.get(run_id, (begin, end))
        spans[run_id] = min(first, begin), max(last, end)
    return spans


def start_ups(launched: dict[str, float], spans: dict[str, tuple[float, float]]) -> float | None:
    """Median seconds from a run's launch to its first submission; None when nothing was submitted."""
    found = [spans[run_id][0] - moment for run_id, moment in launched.items() if run_id in spans]
    return statistics.median(found) if found else None


def _load(metadata: Mapping[str, dg.MetadataValue]) -> set[tuple[float, float]]:
    """From when to when a materialization's rows were loaded; empty when it does not tell."""
    if "started_at" not in metadata:
        return set()
    begin, end = (datetime.fromisoformat(str(metadata[name].value)) for name in ("started_at", "finished_at"))
    return {(begin.timestamp(), end.timestamp())}


def _last_line(error: str) -> str:
    """The message of the innermost exception, which says most."""
    lines = [line.strip() for line in error.splitlines() if "Error" in line or "Exception" in line]
    return (lines or [error.strip()])[-1][:400]


def _query(url: str, query: str) -> list[Any]:
    if "://" not in url:
        import duckdb

        with duckdb.connect(url, read_only=True) as connection:
            try:
                return connection.execute(query).fetchall()
            except duckdb.CatalogException:
                return []
    engine = create_engine(url)
    with engine.connect() as connection:
        schema, _, table = query.rpartition(" ")[2].partition(".")
        exists = "SELECT 1 FROM information_schema.tables WHERE table_schema = :schema AND table_name = :table"
        if connection.execute(text(exists), {"schema": schema, "table": table}).first() is None:
            return []
        return list(connection.execute(text(query)))


def _epoch(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
