"""The usage summaries as SQL over the warehouse, loaded back as tables beside it.

All money is summed over `attempts`, one row a POST, because a charge stands in `attempts` once and may stand in
the model tables of several prompt sets. The SQL is what DuckDB and PostgreSQL share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dlt

from segmind_dagster.registry import MODELS
from segmind_dagster.source import tables
from segmind_dagster.source.pipeline import warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dlt.extract.resource import DltResource
    from dlt.extract.source import DltSource

    from segmind_dagster.settings import Settings

_OPEN = "('planned', 'submitting', 'submitted')"

_SPEND = """
    SUM(CASE WHEN cost_source = 'reported' OR cost_source = 'history' THEN cost_usd ELSE 0 END) AS cost_usd,
    SUM(CASE WHEN cost_source = 'estimated' THEN cost_usd
             WHEN cost_usd IS NULL THEN reserved_usd ELSE 0 END) AS estimated_cost_usd
"""
_LATENCY = """
    PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY {column}) AS latency_p50_ms,
    PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY {column}) AS latency_p95_ms
"""


def usage_sql(resources: Sequence[str]) -> dict[str, str]:
    """The query of each summary, by table name.

    Args:
        resources: models whose tables exist; at least one.
    """
    generations = _generations(resources)
    return {
        "usage_by_model": _by("model", generations),
        "usage_by_prompt_set": _by("prompt_set", generations),
        "usage_by_day": f"""
            SELECT a.*, (a.cost_usd + a.estimated_cost_usd) / NULLIF(a.succeeded, 0) AS cost_per_output_usd
            FROM (
                SELECT CAST(intent_at AS DATE) AS day, COUNT(*) AS attempts,
                    SUM(CASE WHEN status = 'succeeded' THEN 1 ELSE 0 END) AS succeeded,
                    SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS failed,
                    {_SPEND}, {_LATENCY.format(column="latency_ms")}
                FROM attempts GROUP BY CAST(intent_at AS DATE)
            ) AS a ORDER BY a.day
        """,
        "usage_by_failure": f"""
            SELECT a.failure_kind, a.model, a.attempts, a.cost_usd, a.estimated_cost_usd, a.example,
                COALESCE(g.still_failed, 0) AS still_failed
            FROM (
                SELECT failure_kind, model, COUNT(*) AS attempts, MIN(error) AS example, {_SPEND}
                FROM attempts WHERE failure_kind IS NOT NULL GROUP BY failure_kind, model
            ) AS a
            LEFT JOIN (
                SELECT failure_kind, model, COUNT(DISTINCT generation_id) AS still_failed
                FROM ({generations}) AS every WHERE status = 'failed' GROUP BY failure_kind, model
            ) AS g ON g.failure_kind = a.failure_kind AND g.model = a.model
            ORDER BY a.attempts DESC
        """,
    }


def usage_source() -> DltSource:
    """The summaries as a dlt source: each resource asks the warehouse it is loaded into."""
    return dlt.source(lambda: [_resource(name) for name in tables.USAGE_COLUMNS], name="segmind")()


def _resource(name: str) -> DltResource:
    def rows() -> Iterator[Any]:
        yield dlt.mark.materialize_table_schema()
        pipeline = dlt.current.pipeline()
        loaded = [model.resource for model in MODELS if _has_table(pipeline, model.resource)]
        found = query(pipeline, usage_sql(loaded)[name]) if loaded else []
        if found:
            yield found

    rows.__doc__ = f"Usage {name.removeprefix('usage_').replace('_', ' ')}: counts, money and latency."
    resource: DltResource = dlt.resource(
        rows, name=name, write_disposition="replace", columns=tables.USAGE_COLUMNS[name]
    )
    return resource


def read_table(settings: Settings, name: str) -> list[dict[str, Any]]:
    """The rows of a summary, in its turn with loaders.

    Args:
        settings: which warehouse.
        name: table name, one of `tables.USAGE_COLUMNS`.
    """
    columns = tables.USAGE_COLUMNS[name]
    with warehouse(settings, purpose=f"reading {name}") as pipeline:
        if not _has_table(pipeline, name):
            return []
        return query(pipeline, f"SELECT {', '.join(columns)} FROM {name} ORDER BY 1")


def query(pipeline: Any, sql: str) -> list[dict[str, Any]]:
    """Rows of a query on a pipeline's dataset; none while nothing has been loaded.

    Args:
        pipeline: a dlt pipeline.
        sql: standard SQL over the dataset's tables.
    """
    if not _has_table(pipeline, "attempts"):
        return []
    with pipeline.sql_client() as client, client.execute_query(sql) as cursor:
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _has_table(pipeline: Any, name: str) -> bool:
    # a pipeline that never loaded names its schema before it has one
    return pipeline.default_schema_name in pipeline.schemas and name in pipeline.default_schema.tables


def _by(dimension: str, generations: str) -> str:
    def count(condition: str) -> str:
        # what a set no longer asks for is not counted, but its money is
        counted = f"CASE WHEN is_current AND {condition} THEN generation_id END"
        return f"COUNT(DISTINCT {counted})" if dimension == "model" else f"COUNT({counted})"

    return f"""
        SELECT g.*, COALESCE(a.attempts, 0) AS attempts, COALESCE(a.cost_usd, 0) AS cost_usd,
            COALESCE(a.estimated_cost_usd, 0) AS estimated_cost_usd,
            (COALESCE(a.cost_usd, 0) + COALESCE(a.estimated_cost_usd, 0)) / NULLIF(a.outputs, 0) AS cost_per_output_usd,
            a.latency_p50_ms, a.latency_p95_ms
        FROM (
            SELECT {dimension}, {count("TRUE")} AS generations,
                {count("status = 'succeeded'")} AS succeeded,
                {count("status = 'failed'")} AS failed,
                {count("status = 'unknown'")} AS unknown,
                {count(f"status IN {_OPEN}")} AS unfinished,
                SUM(CASE WHEN is_current AND is_reused THEN 1 ELSE 0 END) AS reused,
                SUM(CASE WHEN is_current THEN saved_usd ELSE 0 END) AS saved_usd
            FROM ({generations}) AS every
            GROUP BY {dimension}
        ) AS g
        LEFT JOIN (
            SELECT {dimension}, COUNT(*) AS attempts,
                SUM(CASE WHEN status = 'succeeded' THEN 1 ELSE 0 END) AS outputs,
                {_SPEND}, {_LATENCY.format(column="latency_ms")}
            FROM attempts GROUP BY {dimension}
        ) AS a ON a.{dimension} = g.{dimension}
        ORDER BY g.{dimension}
    """


def _generations(resources: Sequence[str]) -> str:
    columns = "prompt_set, generation_id, model, status, failure_kind, is_reused, is_current, saved_usd"
    return " UNION ALL ".join(f"SELECT {columns} FROM {resource}" for resource in resources)
