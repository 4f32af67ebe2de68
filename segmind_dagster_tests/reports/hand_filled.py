"""A DuckDB with the tables that a load makes, filled row by row, and the summaries asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import duckdb

from segmind_dagster.registry import MODELS
from segmind_dagster.reports.usage import usage_sql
from segmind_dagster.source import tables

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from decimal import Decimal

_TYPES = {
    "text": "VARCHAR", "json": "JSON", "bigint": "BIGINT", "bool": "BOOLEAN", "double": "DOUBLE", "date": "DATE",
    "timestamp": "TIMESTAMPTZ", "decimal": "DECIMAL(38,9)",
}  # fmt: skip
FLUX, REALITY, STICKER = "fast-flux-schnell", "sdxl1.0-newreality-lightning", "face-to-sticker"
_TABLES = {model.slug: model.resource for model in MODELS}


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
    cost_usd: Decimal | None = None
    reserved_usd: Decimal | None = None
    cost_source: str | None = None
    latency_ms: int | None = None
    intent_at: datetime


@dataclass(frozen=True, kw_only=True)
class Row:
    """One generation as a prompt set sees it."""

    generation_id: str
    prompt_set: str = "fruit"
    model: str = FLUX
    status: str = "succeeded"
    failure_kind: str | None = None
    is_reused: bool = False
    is_current: bool = True
    saved_usd: Decimal | int = 0


class Warehouse:
    """The dataset's tables in memory; use it as a context manager."""

    def __enter__(self) -> Self:
        self._connection = duckdb.connect()
        # a day of the summaries is one of UTC, wherever the warehouse thinks it is
        self._connection.execute("SET TimeZone = 'UTC'")
        for table in ("attempts", *_TABLES.values()):
            columns = tables.ATTEMPT_COLUMNS if table == "attempts" else tables.MODEL_COLUMNS
            declared = ", ".join(f"{name} {_TYPES[hints['data_type']]}" for name, hints in columns.items())
            self._connection.execute(f"CREATE TABLE {table} ({declared})")
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def fill(self, items: Iterable[Attempt | Row]) -> None:
        """Make these the only rows."""
        for table in ("attempts", *_TABLES.values()):
            self._connection.execute(f"TRUNCATE {table}")
        by_table: dict[str, list[Attempt | Row]] = {}
        for item in items:
            by_table.setdefault("attempts" if isinstance(item, Attempt) else _TABLES[item.model], []).append(item)
        for table, rows in by_table.items():
            names = list(rows[0].__dataclass_fields__)
            marks = ", ".join([f"({', '.join('?' * len(names))})"] * len(rows))
            values = [getattr(row, name) for row in rows for name in names]
            self._connection.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES {marks}", values)

    def ask(self, summary: str) -> list[dict[str, Any]]:
        """The rows of a summary."""
        cursor = self._connection.execute(usage_sql([model.resource for model in MODELS])[summary])
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
