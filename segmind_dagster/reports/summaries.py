"""Tables made of tables: dlt resources that ask the warehouse they are loaded into, and replace what was there.

What to ask is each summary's own; here is only what all of them share.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any, Final

import dlt

from segmind_dagster.reports.queries import ask, has_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dlt.extract.resource import DltResource
    from dlt.extract.source import DltSource

    from segmind_dagster.source.tables import Columns

    Rows = Callable[[Any, str], list[dict[str, Any]]]

_NANO: Final = Decimal("0.000000001")


def summary_source(summaries: Mapping[str, tuple[Columns, str, Rows]]) -> DltSource:
    """A dlt source of summaries.

    Args:
        summaries: by table name: columns, description, and what answers with the rows, given pipeline and name.
    """
    resources = [_resource(name, *summary) for name, summary in summaries.items()]
    return dlt.source(lambda: resources, name="segmind", section="segmind")()


def fitted(row: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """A row in the types of its columns: destinations answer a sum as a decimal, an integer or a float.

    Args:
        row: as the destination gave it.
        columns: of the table.
    """
    return {name: _fitted(row[name], hints["data_type"]) for name, hints in columns.items()}


def read_rows(pipeline: Any, name: str, columns: Columns) -> list[dict[str, Any]]:
    """A summary as it was loaded last, in order of its key; empty while there is none.

    A column that was added since then is not known.
    """
    if not has_tables(pipeline, name):
        return []
    key = ", ".join(column for column, hints in columns.items() if not hints.get("nullable", True))
    there = pipeline.default_schema.tables[name].get("columns", {})
    names = [column for column in columns if column in there]
    unknown = dict.fromkeys(columns)
    rows = ask(pipeline, f"SELECT {', '.join(names)} FROM {name} ORDER BY {key}")
    return [fitted({**unknown, **row}, columns) for row in rows]


def _fitted(value: Any, data_type: str) -> Any:
    to_type = _TO_TYPE.get(data_type)
    return value if value is None or to_type is None else to_type(value)


def _moment(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


_TO_TYPE: Final[Mapping[str, Callable[[Any], Any]]] = {
    "decimal": lambda value: Decimal(str(value)).quantize(_NANO, ROUND_HALF_EVEN),
    "bigint": int,
    "double": float,
    "bool": bool,
    "date": lambda value: value if isinstance(value, date) else date.fromisoformat(str(value)),
    "timestamp": _moment,
}


def _resource(name: str, columns: Columns, description: str, answer: Rows) -> DltResource:
    def rows() -> Iterator[Any]:
        yield dlt.mark.materialize_table_schema()
        found = answer(dlt.current.pipeline(), name)
        if found:
            yield [fitted(row, columns) for row in found]

    rows.__doc__ = description
    resource: DltResource = dlt.resource(rows, name=name, write_disposition="replace", columns=columns)
    return resource
