"""Every query is one text, and becomes SQL that each destination's dialect has words for; values are never parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from lab.warehouse import ORIGIN, RESOURCES, Request
from sqlglot import exp
from sqlglot.errors import SqlglotError

from segmind_dagster.reports import account, spend_sql
from segmind_dagster.reports.queries import compiled
from segmind_dagster.reports.usage import json_as_text
from segmind_dagster.reports.usage_sql import combinations_sql, usage_sql

if TYPE_CHECKING:
    from lab.warehouse import Warehouse

# sqlglot's names, and how dlt says that the destination writes names
DIALECTS = {
    "duckdb": str, "postgres": str, "bigquery": str, "snowflake": str.upper, "redshift": str.lower,
    "databricks": str, "sqlite": str, "clickhouse": str,
}  # fmt: skip
# percentiles of any spelling: each destination has its own, BigQuery none over groups, SQLite none at all
NOT_EVERYWHERE = (
    exp.PercentileCont, exp.PercentileDisc, exp.WithinGroup, exp.Quantile, exp.ApproxQuantile, exp.Median,
    exp.JSONExtract, exp.JSONExtractScalar, exp.AtTimeZone, exp.DateTrunc, exp.Extract, exp.Interval, exp.Filter,
    exp.Qualify, exp.Lateral, exp.Unnest,
)  # fmt: skip
AS_TEXT = {"TO_JSON_STRING", "JSON_SERIALIZE"}
SPEND_TEXTS = {
    "first_intent": spend_sql.FIRST_INTENT,
    "not_ours": spend_sql.NOT_OURS,
    "charged_again": spend_sql.charged_again(with_history=True),
    "charged_again_by_ledger": spend_sql.charged_again(with_history=False),
    "charged_in_vain": spend_sql.charged_in_vain(with_history=True),
    "charged_in_vain_by_ledger": spend_sql.charged_in_vain(with_history=False),
    "different": spend_sql.DIFFERENT,
    "balances": spend_sql.BALANCES,
    "charges": spend_sql.CHARGES,
    "both_books": spend_sql.BOTH_BOOKS,
}


def texts(dialect: str) -> dict[str, str]:
    as_text = json_as_text(dialect)
    return {
        **usage_sql(RESOURCES),
        "usage_by_day of an older warehouse": usage_sql(RESOURCES, dated=[])["usage_by_day"],
        "combinations": combinations_sql(RESOURCES, as_text=as_text),
        **{f"spend: {name}": text for name, text in SPEND_TEXTS.items()},
        **{f"account: {name}": text for name, text in account.TEXTS.items()},
    }


def written(sql: str, dialect: str) -> str:
    casefold = DIALECTS[dialect]
    return compiled(
        sql,
        dialect=dialect,
        path=lambda table: [casefold(name) for name in ("warehouse", "segmind_data", table)],
        casefold=casefold,
        values={"api_origin": ORIGIN},
    )


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", texts("duckdb"))
def test_a_query_compiles_for_the_destination_and_reads_as_it_was_written(dialect: str, name: str) -> None:
    text = texts(dialect)[name]
    casefold = DIALECTS[dialect]
    tree = sqlglot.parse_one(written(text, dialect), read=dialect)
    assert not list(tree.find_all(*NOT_EVERYWHERE))
    assert {function.name for function in tree.find_all(exp.Anonymous)} <= AS_TEXT
    assert [column.lower() for column in tree.named_selects] == sqlglot.parse_one(text).named_selects
    own = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if table.name not in own:
            assert (table.catalog, table.db) == (casefold("warehouse"), casefold("segmind_data"))
    assert {name.this for name in tree.find_all(exp.Identifier)} == {
        casefold(name.this) for name in tree.find_all(exp.Identifier)
    }
    assert not list(tree.find_all(exp.Placeholder))


def test_a_query_that_cannot_be_translated_is_refused() -> None:
    with pytest.raises(SqlglotError):
        written(
            "SELECT PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY a.ms) FILTER (WHERE a.ms > 1 FROM attempts", "bigquery"
        )


@given(st.text(max_size=60).filter(lambda text: "\0" not in text))
def test_a_value_comes_back_as_it_was_given_whatever_is_in_it(warehouse: Warehouse, value: str) -> None:
    warehouse.fill([Request(request_id="r")])
    (row,) = warehouse.query("SELECT h.request_id, :api_origin AS given FROM request_history AS h", api_origin=value)
    assert row == {"request_id": "r", "given": value}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("value", ["'; DROP TABLE attempts; --", "\\'; SELECT 1; --", "a\\", "{{x}}", "$1 %s ?"])
def test_a_hostile_value_stays_one_literal_in_every_dialect(dialect: str, value: str) -> None:
    sql = compiled(
        "SELECT h.model FROM request_history AS h WHERE h.api_origin = :api_origin",
        dialect=dialect, path=lambda table: ["segmind_data", table], values={"api_origin": value},
    )  # fmt: skip
    statements = sqlglot.parse(sql, read=dialect)
    assert len(statements) == 1
    assert [literal.this for literal in statements[0].find_all(exp.Literal)] == [value]
