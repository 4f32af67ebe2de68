"""A DuckDB with the tables that a load makes, filled row by row, and questions asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import duckdb
from sqlglot import exp, parse_one

from segmind_dagster.registry import MODELS
from segmind_dagster.reports.queries import compiled
from segmind_dagster.reports.summaries import fitted
from segmind_dagster.reports.usage_sql import combinations_sql, usage_sql
from segmind_dagster.reports.variables import by_variable
from segmind_dagster.source import tables

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime
    from decimal import Decimal

_TYPES = {
    "text": "VARCHAR", "json": "JSON", "bigint": "BIGINT", "bool": "BOOLEAN", "double": "DOUBLE", "date": "DATE",
    "timestamp": "TIMESTAMPTZ", "decimal": "DECIMAL(38,9)",
}  # fmt: skip
FLUX, REALITY, STICKER = "fast-flux-schnell", "sdxl1.0-newreality-lightning", "face-to-sticker"
ORIGIN = "https://api.segmind.com"
_MODEL_TABLES = {model.slug: model.resource for model in MODELS}
RESOURCES = [model.resource for model in MODELS]
_COLUMNS = {
    "attempts": tables.ATTEMPT_COLUMNS,
    "request_history": tables.HISTORY_COLUMNS,
    "credits": tables.CREDITS_COLUMNS,
    **dict.fromkeys(_MODEL_TABLES.values(), tables.MODEL_COLUMNS),
}


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One POST."""

    generation_id: str
    attempt: int = 1
    prompt_set: str = "fruit"
    model: str = FLUX
    status: str = "succeeded"
    failure_kind: str | None = None
    error: str | None = None
    request_id: str | None = None
    cost_usd: Decimal | None = None
    reserved_usd: Decimal | None = None
    cost_source: str | None = None
    rate_wait_ms: int = 0
    queue_ms: int | None = None
    inference_ms: int | None = None
    latency_ms: int | None = None
    intent_at: datetime
    submitted_at: datetime | None = None
    api_origin: str = ORIGIN

    @property
    def day(self) -> date:
        return self.intent_at.astimezone(UTC).date()

    @property
    def table(self) -> str:
        return "attempts"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One generation as a prompt set sees it."""

    generation_id: str
    prompt_set: str = "fruit"
    model: str = FLUX
    status: str = "succeeded"
    failure_kind: str | None = None
    error: str | None = None
    is_reused: bool = False
    is_current: bool = True
    saved_usd: Decimal | int | None = 0
    asked_day: date | None = None
    variables: str = "{}"

    @property
    def table(self) -> str:
        return _MODEL_TABLES[self.model]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One row of Segmind's history."""

    request_id: str
    model: str = FLUX
    status: str = "COMPLETED"
    cost_usd: Decimal | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    request_body: str = "{}"
    api_origin: str = ORIGIN

    @property
    def table(self) -> str:
        return "request_history"


@dataclass(frozen=True, kw_only=True)
class Balance:
    """One look at the balance."""

    observed_at: datetime
    balance_usd: Decimal
    api_origin: str = ORIGIN

    @property
    def table(self) -> str:
        return "credits"


Item = Attempt | Row | Request | Balance


@cache
def _compiled(sql: str, **values: Any) -> tuple[str, list[str]]:
    text = compiled(sql, dialect="duckdb", path=lambda table: ["main", table], values=values)
    return text, parse_one(sql, into=exp.Select).named_selects


class Warehouse:
    """The dataset's tables in memory; use it as a context manager."""

    def __enter__(self) -> Self:
        self._connection = duckdb.connect()
        # a day of the summaries is one of UTC, wherever the warehouse thinks it is
        self._connection.execute("SET TimeZone = 'Pacific/Auckland'")
        for table, columns in _COLUMNS.items():
            declared = ", ".join(f"{name} {_TYPES[hints['data_type']]}" for name, hints in columns.items())
            self._connection.execute(f"CREATE TABLE {table} ({declared})")
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def fill(self, items: Iterable[Item]) -> None:
        """Make these the only rows."""
        for table in _COLUMNS:
            self._connection.execute(f"TRUNCATE {table}")
        by_table: dict[str, list[Item]] = {}
        for item in items:
            by_table.setdefault(item.table, []).append(item)
        for table, rows in by_table.items():
            names = [*rows[0].__dataclass_fields__, *(["day"] if table == "attempts" else [])]
            marks = ", ".join([f"({', '.join('?' * len(names))})"] * len(rows))
            values = [getattr(row, name) for row in rows for name in names]
            self._connection.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES {marks}", values)

    def query(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """The rows of a query, compiled as for any destination."""
        text, names = _compiled(sql, **values)
        rows = self._connection.execute(text).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def ask(self, summary: str) -> list[dict[str, Any]]:
        """The rows of a usage summary, as they would be loaded."""
        if summary == "usage_by_variable":
            rows = by_variable(self.query(combinations_sql(RESOURCES, as_text="CAST({} AS TEXT)")))
        else:
            rows = self.query(usage_sql(RESOURCES)[summary])
        return [fitted(row, tables.USAGE_COLUMNS[summary]) for row in rows]
