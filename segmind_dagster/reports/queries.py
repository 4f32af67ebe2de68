"""Asks the warehouse: one SQL text, written once, in the words of whichever destination the rows are in.

The texts use what every dialect has (CTEs, CASE, joins, sums, one kind of window) and name tables and columns only.
sqlglot, which dlt brings, puts in the dataset, the case of names and the values, and writes the destination's SQL.
Which questions are asked is decided in `usage_sql` and `spend_sql`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlglot import exp

_PAGE_ROWS = 10_000


def compiled(
    sql: str,
    *,
    dialect: str,
    path: Callable[[str], Sequence[str]],
    casefold: Callable[[str], str] = str,
    values: Mapping[str, Any] | None = None,
) -> str:
    """A query in a destination's dialect.

    Args:
        sql: the query; tables by their plain name, values as `:name`.
        dialect: sqlglot's name of it.
        path: from a table's plain name to catalog, dataset and table, unquoted.
        casefold: how the destination writes names.
        values: of the query; they become literals in the syntax tree, never text that is parsed.

    Raises:
        sqlglot.errors.SqlglotError: the dialect has no word for something in it.
    """
    from sqlglot import ErrorLevel, exp

    tree = _parsed(sql).copy()
    for placeholder in list(tree.find_all(exp.Placeholder)):
        placeholder.replace(exp.convert((values or {})[placeholder.name]))
    own = {cte.alias for cte in tree.find_all(exp.CTE)}
    for identifier in tree.find_all(exp.Identifier):
        identifier.set("this", casefold(identifier.name))
        identifier.set("quoted", True)
    for table in list(tree.find_all(exp.Table)):
        # the name in the text: what `casefold` made of it would be folded twice
        name = table.name.lower()
        if name not in own:
            alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(casefold(name), quoted=True))
            parts = [exp.to_identifier(part, quoted=True) for part in path(name)]
            *catalog, dataset, own_name = parts
            table.replace(exp.Table(this=own_name, db=dataset, catalog=catalog[0] if catalog else None, alias=alias))
    return tree.sql(dialect=dialect, unsupported_level=ErrorLevel.RAISE)


def ask(pipeline: Any, sql: str, **values: Any) -> list[dict[str, Any]]:
    """The rows of a query, as `compiled` takes it, on a pipeline's dataset."""
    return list(ask_in_pages(pipeline, sql, **values))


def ask_in_pages(pipeline: Any, sql: str, **values: Any) -> Iterator[dict[str, Any]]:
    """The same for answers that are too long for memory; the connection is open meanwhile."""
    names = _parsed(sql).named_selects
    with pipeline.sql_client() as client:
        text = compiled(
            sql,
            dialect=client.capabilities.sqlglot_dialect,
            path=lambda table: client.make_qualified_table_name_path(table, quote=False),
            casefold=client.capabilities.casefold_identifier,
            values=values,
        )
        with client.execute_query(text) as cursor:
            while page := cursor.fetchmany(_PAGE_ROWS):
                for row in page:
                    yield dict(zip(names, row, strict=True))


@cache
def _parsed(sql: str) -> exp.Select:
    from sqlglot import exp, parse_one

    return parse_one(sql, into=exp.Select)


def has_tables(pipeline: Any, *names: str) -> bool:
    """Whether the pipeline's dataset has these tables; false while nothing was ever loaded."""
    # a pipeline that never loaded names its schema before it has one
    if pipeline.default_schema_name not in pipeline.schemas:
        return False
    return all(name in pipeline.default_schema.tables for name in names)
