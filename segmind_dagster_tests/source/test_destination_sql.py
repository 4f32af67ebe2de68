"""The SQL by which dlt makes and merges our tables, in each warehouse's own dialect; nothing is connected or executed.

Drivers that are not installed are stood in for, see `lab.missing_drivers`: dlt's own clients make the SQL all the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlglot
from dlt.dataset.utils import get_destination_client_initial_config
from lab.missing_drivers import standing_in
from sqlglot import exp
from test_destination_examples import EXAMPLES

from segmind_dagster.registry import MODELS
from segmind_dagster.reports.spend import spend_source
from segmind_dagster.reports.usage import usage_source
from segmind_dagster.settings import load_settings
from segmind_dagster.source import build_source
from segmind_dagster.source.destinations import find_destination

if TYPE_CHECKING:
    from collections.abc import Iterator

# files have no SQL, and one example a warehouse is enough
WAREHOUSES = {
    example["SEGMIND_DESTINATION"]: example for example in EXAMPLES if example["SEGMIND_DESTINATION"] != "filesystem"
}
JSON, MONEY, TIME = "params", "cost_usd", "submitted_at"
# of a JSON, a money, a time and a number column, as each warehouse's manual calls them
TYPES = {
    "postgres": ("JSONB", "DECIMAL(38, 9)", "TIMESTAMPTZ", "BIGINT"),
    "bigquery": ("JSON", "NUMERIC(38, 9)", "TIMESTAMP", "INT64"),
    "snowflake": ("VARIANT", "DECIMAL(38, 9)", "TIMESTAMPLTZ", "DECIMAL(19, 0)"),
    "redshift": ("SUPER", "DECIMAL(38, 9)", "TIMESTAMP WITH TIME ZONE", "BIGINT"),
    "databricks": ("STRING", "DECIMAL(38, 9)", "TIMESTAMP", "BIGINT"),
    "motherduck": ("JSON", "DECIMAL(38, 9)", "TIMESTAMPTZ", "BIGINT"),
    "ducklake": ("JSON", "DECIMAL(38, 9)", "TIMESTAMPTZ", "BIGINT"),
}
MERGED = ["attempts", "request_history", "models_page", "models_page_rows", *(model.resource for model in MODELS)]


@pytest.fixture(params=list(WAREHOUSES))
def warehouse(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """dlt's client of a warehouse, with every table of ours in its schema."""
    for name, value in WAREHOUSES[request.param].items():
        monkeypatch.setenv(name, value)
    settings = load_settings(project_dir=tmp_path)
    schema = build_source(settings, prompt_sets=None).discover_schema()
    for summaries in (usage_source(), spend_source(lambda: settings)):
        for table in summaries.discover_schema().data_tables():
            schema.update_table(table)
    with standing_in():
        destination = find_destination(settings)
        yield destination.client(schema, get_destination_client_initial_config(destination, "segmind_data"))


def parsed(warehouse: Any, statement: str) -> exp.Expression:
    return sqlglot.parse_one(statement, dialect=warehouse.capabilities.sqlglot_dialect)


def made(warehouse: Any, table: str, *, also_new: bool = False) -> list[str]:
    columns = list(warehouse.schema.get_table_columns(table).values())
    statements: list[str] = warehouse._get_table_update_sql(table, columns, generate_alter=also_new)
    return statements


def columns_of(warehouse: Any, table: str) -> dict[str, exp.ColumnDef]:
    (statement,) = made(warehouse, table)
    return {column.name.lower(): column for column in parsed(warehouse, statement).find_all(exp.ColumnDef)}


def merging(warehouse: Any, table: str) -> list[exp.Expression]:
    (job,) = warehouse._create_merge_followup_jobs([warehouse.prepare_load_table(table)])
    return [parsed(warehouse, line) for line in Path(job.new_file_path()).read_text(encoding="utf-8").splitlines()]


def test_every_table_can_be_created_with_all_columns_and_extended(warehouse: Any) -> None:
    tables = warehouse.schema.data_table_names() + warehouse.schema.dlt_table_names()
    assert {*MERGED, "usage_by_day", "spend_balance", "credits", "models", "model_changes"} <= set(tables)
    for table in tables:
        expected = warehouse.schema.get_table_columns(table)
        columns = columns_of(warehouse, table)
        assert list(columns) == list(expected)
        for name, hints in expected.items():
            is_required = columns[name].find(exp.NotNullColumnConstraint) is not None
            assert is_required is (not hints.get("nullable", True)), (table, name)
        for statement in made(warehouse, table, also_new=True):
            # sqlglot keeps several columns of one ALTER in Databricks' words as they are
            assert isinstance(parsed(warehouse, statement), exp.Alter | exp.Command), statement
            assert statement.startswith("ALTER TABLE"), statement


def test_money_time_and_json_have_the_types_that_keep_them_exact(warehouse: Any) -> None:
    name = warehouse.config.destination_type.rpartition(".")[2]
    columns = columns_of(warehouse, "fast_flux_schnell")
    types = tuple(
        columns[each].args["kind"].sql(dialect=warehouse.capabilities.sqlglot_dialect)
        for each in (JSON, MONEY, TIME, "queue_ms")
    )
    assert types == TYPES[name]
    for table in warehouse.schema.data_table_names():
        for column, definition in columns_of(warehouse, table).items():
            if column.endswith("_usd"):
                precision, scale = (int(each.name) for each in definition.args["kind"].expressions)
                assert (precision, scale) == (38, 9), (table, column)


def test_a_merge_replaces_the_rows_of_the_same_key_and_no_others(warehouse: Any) -> None:
    for table in MERGED:
        columns = warehouse.schema.get_table_columns(table)
        key = {name for name, hints in columns.items() if hints.get("primary_key")}
        assert key
        delete, insert = merging(warehouse, table)
        assert isinstance(delete, exp.Delete)
        assert delete.this.name.lower() == table
        compared = [{side.name.lower() for side in (each.left, each.right)} for each in delete.find_all(exp.EQ)]
        assert sorted(map(sorted, compared)) == sorted([name] for name in key)
        assert len(list(delete.find_all(exp.Exists))) == 1
        assert isinstance(insert, exp.Insert)
        assert insert.this.this.name.lower() == table
        assert [column.name.lower() for column in insert.this.expressions] == list(columns)
        (numbered,) = insert.find_all(exp.Window)
        assert {column.name.lower() for column in numbered.args["partition_by"]} == key
