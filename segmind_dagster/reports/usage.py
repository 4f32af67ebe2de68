"""The usage summaries: asked of the warehouse they are loaded back into, as tables beside the rows.

What is asked is in `usage_sql`; how it becomes a destination's SQL, in `queries`; the columns, in `source.tables`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segmind_dagster.registry import MODELS
from segmind_dagster.reports.queries import ask, has_tables
from segmind_dagster.reports.summaries import read_rows, summary_source
from segmind_dagster.reports.usage_sql import combinations_sql, usage_sql
from segmind_dagster.reports.variables import by_variable
from segmind_dagster.source import tables
from segmind_dagster.source.pipeline import warehouse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dlt.extract.source import DltSource

    from segmind_dagster.settings import Settings

# what makes text of a JSON column where a cast does not; by sqlglot's name of the dialect
_AS_TEXT = {"bigquery": "TO_JSON_STRING({})", "redshift": "JSON_SERIALIZE({})"}


def json_as_text(dialect: str) -> str:
    """How a destination makes text of a JSON column, with `{}` for the column."""
    return _AS_TEXT.get(dialect, "CAST({} AS TEXT)")


def usage_source() -> DltSource:
    """The summaries as a dlt source: each resource asks the warehouse it is loaded into."""
    return summary_source({
        name: (columns, f"Usage {name.removeprefix('usage_').replace('_', ' ')}: {_ABOUT[name]}.", _rows)
        for name, columns in tables.USAGE_COLUMNS.items()
    })  # fmt: skip


def read_table(settings: Settings, name: str) -> list[dict[str, Any]]:
    """The rows of a summary, in its turn with loaders.

    Args:
        settings: which warehouse.
        name: table name, one of `tables.USAGE_COLUMNS` or `tables.SPEND_COLUMNS`.
    """
    columns = {**tables.USAGE_COLUMNS, **tables.SPEND_COLUMNS}[name]
    with warehouse(settings, purpose=f"reading {name}") as pipeline:
        return read_rows(pipeline, name, columns)


def brief(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The columns of a summary that fit on a page; the table has the rest."""
    return [{name: value for name, value in row.items() if not name.startswith(_IN_DETAIL)} for row in rows]


_IN_DETAIL = ("queue_", "inference_", "reported_", "history_", "rate_")
_ABOUT = {
    "usage_by_day": "what was asked for, sent, spent and saved on each UTC day, and how long it took",
    "usage_by_failure": "why attempts failed, and what that cost",
    "usage_by_model": "what was asked, made and spent with each model, and how long it took",
    "usage_by_prompt_set": "what each prompt set asked for, got and paid, and how long it took",
    "usage_by_variable": "cost and failure rate for each value of a prompt matrix's placeholders",
}


def _rows(pipeline: Any, name: str) -> list[dict[str, Any]]:
    loaded = [model.resource for model in MODELS if has_tables(pipeline, model.resource)]
    if not loaded or not has_tables(pipeline, "attempts"):
        return []
    if name == "usage_by_variable":
        dialect = pipeline.destination.capabilities().sqlglot_dialect
        return by_variable(ask(pipeline, combinations_sql(loaded, as_text=json_as_text(dialect))))
    columns = pipeline.default_schema.tables
    dated = [resource for resource in loaded if "asked_day" in columns[resource].get("columns", {})]
    return ask(pipeline, usage_sql(loaded, dated=dated)[name])
