"""The examples in docs/destinations.md: each is one that dlt takes, and its tables compile in its own SQL."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlglot
from dlt.common.configuration.specs import BaseConfiguration
from dlt.common.destination.utils import verify_schema_capabilities
from dlt.dataset.utils import get_destination_client_initial_config

from segmind_dagster.errors import DestinationError
from segmind_dagster.registry import MODELS
from segmind_dagster.source import build_source, check_destination
from segmind_dagster.source.destinations import find_destination

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dlt
    from lab.source_project import Project

DOCS = Path(__file__).parents[2] / "docs" / "destinations.md"
# their drivers are no dependency of ours; the others' are
DRIVERLESS = ("bigquery", "databricks", "snowflake")


def examples() -> Iterator[dict[str, str]]:
    """The variables of each shell block that names a destination."""
    for block in re.findall(r"```sh\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL):
        words = shlex.split(block)
        assignments = [word.split("=", 1) for word in words if "=" in word and word[0].isupper()]
        yield dict(assignments)


EXAMPLES = list(examples())
each_example = pytest.mark.parametrize(
    "example", EXAMPLES, ids=[f"{n}-{example['SEGMIND_DESTINATION']}" for n, example in enumerate(EXAMPLES)]
)


@pytest.fixture
def configured(example: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in example.items():
        monkeypatch.setenv(name, value)
    return example


def tables_of(settings: Any) -> dlt.Schema:
    return build_source(settings, prompt_sets=None).discover_schema()


def values_of(config: Any) -> Iterator[str]:
    """What stands in a configuration, and in those inside it."""
    for value in dict(config).values():
        if isinstance(value, BaseConfiguration):
            yield from values_of(value)
        else:
            yield str(value)


def test_every_documented_destination_has_an_example() -> None:
    assert {example["SEGMIND_DESTINATION"] for example in EXAMPLES} == {
        "bigquery", "databricks", "ducklake", "filesystem", "motherduck", "postgres", "redshift", "snowflake",
    }  # fmt: skip


@each_example
def test_dlt_takes_the_example_and_needs_no_more(configured: dict[str, str], project: Project) -> None:
    settings = project.settings(SEGMIND_DESTINATION=configured["SEGMIND_DESTINATION"])
    destination = find_destination(settings)
    config = destination.configuration(get_destination_client_initial_config(destination, "segmind_data"))
    assert config.is_resolved()
    # every variable is one that dlt reads: what it says has arrived
    told = " ".join(values_of(config))
    for name, value in configured.items():
        if name.startswith("DESTINATION__"):
            assert any(part in told for part in (value, *re.split(r"[:/@?&=]+", value)[1:3])), name


@each_example
def test_every_column_has_a_type_there_and_rows_can_merge(configured: dict[str, str], project: Project) -> None:
    settings = project.settings(SEGMIND_DESTINATION=configured["SEGMIND_DESTINATION"])
    destination = find_destination(settings)
    capabilities = destination.capabilities()
    schema = tables_of(settings)
    assert verify_schema_capabilities(schema, capabilities, destination.destination_type) == []
    assert {"delete-insert", "upsert"} & set(capabilities.supported_merge_strategies)
    if capabilities.type_mapper is None:  # files have Arrow's types
        assert settings.destination == "filesystem"
        return
    types = capabilities.get_type_mapper()
    for name in ("attempts", "credits", "models", "models_page", "request_history", *(m.resource for m in MODELS)):
        for column in schema.get_table_columns(name).values():
            assert types.to_destination_type(column, schema.get_table(name))


@each_example
def test_the_tables_compile_in_its_own_sql(configured: dict[str, str], project: Project) -> None:
    name = configured["SEGMIND_DESTINATION"]
    settings = project.settings(SEGMIND_DESTINATION=name)
    if name in DRIVERLESS:
        with pytest.raises(DestinationError, match=rf'pip install "dlt\[{name}\]"\. Nothing was submitted'):
            check_destination(settings)
        return
    if name == "filesystem":  # no SQL makes its tables; see test_destinations.py
        return
    destination = find_destination(settings)
    client: Any = destination.client(
        tables_of(settings), get_destination_client_initial_config(destination, "segmind_data")
    )
    for table, columns in ((table, client.schema.get_table_columns(table)) for table in client.schema.tables):
        for statement in client._get_table_update_sql(table, list(columns.values()), generate_alter=False):
            parsed = sqlglot.parse_one(statement, dialect=client.capabilities.sqlglot_dialect)
            assert parsed.find(sqlglot.exp.Table).name == table
            assert {column.name for column in parsed.find_all(sqlglot.exp.ColumnDef)} == set(columns)
