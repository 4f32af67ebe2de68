"""Reads back what earlier loads put into the warehouse, for a ledger that was lost; the inverse of `rows`.

Only what the warehouse says, under the ledger's names. Whether it is to be believed beside what the outputs
folder and Segmind's history say is decided in `recovery`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dlt.common.exceptions import DltException
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from segmind_dagster.errors import DestinationError
from segmind_dagster.lifecycle.parsing import read_instant, read_integer, read_usd
from segmind_dagster.source import tables
from segmind_dagster.source.destinations import duckdb_path
from segmind_dagster.source.pipeline import warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from dlt.destinations.sql_client import SqlClientBase

    from segmind_dagster.settings import Settings

_DIGEST = "sha256:"
_LEDGER_NAMES = {"model": "model_slug", "status": "state"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A generation that a prompt set asked for."""

    prompt_set: str
    generation_id: str
    resource: str
    is_current: bool
    asked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What the warehouse says of one API origin.

    Args:
        generations: by id, under the ledger's column names; None where a column is missing. `parameters` are the
            rest of the body; `images` the digests of local pictures.
        attempts: by generation id, in their order, likewise.
        memberships: which sets asked for what.
        foreign: rows of other origins, left out.
    """

    generations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    attempts: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    memberships: tuple[Membership, ...] = ()
    foreign: int = 0


NOTHING_REMEMBERED = Remembered()


def read_back(settings: Settings, *, say: Callable[[str], None]) -> Remembered:
    """What the warehouse remembers; nothing when there is none.

    Args:
        settings: destination, data folder and origin.
        say: called with a sentence when it cannot be read.

    Raises:
        LoadLockError: another process kept it for too long.
    """
    path = duckdb_path(settings)
    if path is not None and not path.exists():
        return NOTHING_REMEMBERED
    try:
        with warehouse(settings, purpose="rebuilding the ledger", say=say) as pipeline:
            return _collect(pipeline, settings.api_origin)
    except (DestinationError, DltException, OSError) as error:
        say(f"The warehouse cannot be read, so nothing is restored from it: {error}")
        return NOTHING_REMEMBERED


def _collect(pipeline: Any, api_origin: str) -> Remembered:
    generations: dict[str, dict[str, Any]] = {}
    attempts: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    memberships: list[Membership] = []
    foreign = 0
    for name, row in _rows(pipeline):
        if row["api_origin"] != api_origin:
            foreign += 1
        elif name == "attempts":
            attempts[row["generation_id"]].append(row)
        else:
            memberships.append(
                Membership(
                    prompt_set=row["prompt_set"],
                    generation_id=row["generation_id"],
                    resource=name,
                    is_current=bool(row["is_current"]),
                    asked_at=row["asked_at"],
                )
            )
            # of several sets' rows, that of the one which paid names the set
            if row["generation_id"] not in generations or not row["is_reused"]:
                generations[row["generation_id"]] = {**row, "resource": name, **_inputs(row["params"])}
    return Remembered(
        generations=generations,
        attempts={
            key: tuple(sorted(rows, key=lambda row: row["attempt"] or 0)) for key, rows in attempts.items()
        },
        memberships=tuple(memberships),
        foreign=foreign,
    )  # fmt: skip


def _rows(pipeline: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of the model tables and of `attempts`, with its table's name."""
    # a pipeline that never loaded names its schema before it has one
    if pipeline.default_schema_name not in pipeline.schemas:
        return
    with pipeline.sql_client() as client:
        for name, table in pipeline.default_schema.tables.items():
            if name in tables.SPEND_COLUMNS:  # made of the others
                continue
            columns = _ATTEMPT_COLUMNS if name == "attempts" else _MODEL_COLUMNS
            there = [column for column in columns if column in table.get("columns", {})]
            # models whose registry entry is gone still have a table
            if not {"generation_id", "prompt_set", "api_origin", "status"}.issubset(there):
                continue
            try:
                rows = _select(client, name, there)
            except DatabaseUndefinedRelation:  # dropped by hand; the schema still tells of it
                continue
            for values in rows:
                yield name, _row(dict(zip(there, values, strict=True)), columns)


def _select(client: SqlClientBase[Any], table: str, columns: list[str]) -> list[tuple[Any, ...]]:
    query = f"SELECT {', '.join(columns)} FROM {client.make_qualified_table_name(table)}"  # noqa: S608  our own names
    with client.execute_query(query) as cursor:
        return list(cursor.fetchall())


def _row(values: Mapping[str, Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _LEDGER_NAMES.get(name, name): None
        if (value := values.get(name)) is None
        else _READERS[column["data_type"]](value)
        for name, column in columns.items()
    }


def _inputs(params: Any) -> dict[str, Any]:
    """Parameters as they were sent, and the digests that stand for local pictures."""
    params = params if isinstance(params, dict) else {}
    images = {
        name: value.removeprefix(_DIGEST)
        for name, value in params.items()
        if isinstance(value, str) and value.startswith(_DIGEST)
    }
    return {
        "parameters": {name: value for name, value in params.items() if name not in images},
        "images": images,
    }


def _document(value: Any) -> Any:
    if not isinstance(value, str | bytes):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None


# the ledger has the moments
_ATTEMPT_COLUMNS = {name: column for name, column in tables.ATTEMPT_COLUMNS.items() if name != "day"}
_MODEL_COLUMNS = {name: column for name, column in tables.MODEL_COLUMNS.items() if name != "asked_day"}
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "timestamp": read_instant,
    "decimal": read_usd,
    "json": _document,
    "bigint": read_integer,
    "bool": bool,
    "text": str,
}
