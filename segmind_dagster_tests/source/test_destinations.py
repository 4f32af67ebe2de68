"""One ledger, any warehouse: DuckDB, PostgreSQL, a folder and a bucket hold the same single rows."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from lab.destinations import Place, Warehouse
from lab.project import FLUX, REALITY, TEXT
from test_dlt_commands import DATASET, last_line

from segmind_dagster.registry import MODELS
from segmind_dagster.reports.usage import read_table, usage_source
from segmind_dagster.source import load
from segmind_dagster.source.restore import read_back

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.source_project import Project

PLACES = ["duckdb", "folder", "bucket", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    match request.param:
        case "folder":
            place = Place("filesystem", {"DESTINATION__FILESYSTEM__BUCKET_URL": f"file://{tmp_path}/lake"})
        case "bucket":
            url = f"{request.getfixturevalue('s3_bucket')}/lake"
            place = Place("filesystem", {"DESTINATION__FILESYSTEM__BUCKET_URL": url})
        case "postgres":
            url = request.getfixturevalue("postgres_url")
            place = Place("postgres", {"DESTINATION__POSTGRES__CREDENTIALS": url.replace("@", ":unused@")})
        case name:
            place = Place(name)
    with place.configured():
        yield place


@pytest.fixture
def warehouse(project: Project, place: Place) -> Warehouse:
    return Warehouse(project, place)


def test_loading_twice_keeps_every_row_single_and_its_money_exact(project: Project, warehouse: Warehouse) -> None:
    models = {FLUX: {"steps": 3}, REALITY: {}}
    project.buy(project.write("fruit", ["a pear", "a plum"], models=models))
    warehouse.load()
    warehouse.load()
    for name, sent in models.items():
        rows = warehouse.rows(f"SELECT prompt, status, params, width FROM {name} ORDER BY prompt")
        assert [row[:2] for row in rows] == [("a pear", "succeeded"), ("a plum", "succeeded")]
        for _, _, params, width in rows:
            assert (json.loads(params) if isinstance(params, str) else params) == sent
            assert width == 64
    ((spent_usd, posts),) = warehouse.rows("SELECT sum(cost_usd), count(*) FROM attempts")
    assert (spent_usd, posts) == (project.charged_usd, 4)
    assert isinstance(spent_usd, Decimal)
    assert project.posts == 4
    ((requests,),) = warehouse.rows("SELECT count(*) FROM request_history")
    assert requests == 4
    # a snapshot each time it is read
    assert warehouse.rows("SELECT count(*) FROM credits") == [(2,)]


def test_a_changed_row_replaces_the_existing_one(project: Project, warehouse: Warehouse) -> None:
    key = project.write("fruit", ["a pear", "a plum"])
    project.buy(key)
    warehouse.load(FLUX, "attempts")
    project.write("fruit", ["a pear", "a quince"])
    project.buy(key)
    warehouse.load(FLUX, "attempts", prompt_sets=[key])
    rows = warehouse.rows(f"SELECT prompt, is_current FROM {FLUX} ORDER BY prompt")
    assert rows == [("a pear", True), ("a plum", False), ("a quince", True)]


def test_a_new_column_is_added_to_the_table_and_stays(project: Project, warehouse: Warehouse) -> None:
    project.buy(project.write("fruit", ["a pear"]))
    warehouse.load(FLUX, "attempts")
    project.buy(project.write("harvest", ["a plum"]))
    warehouse.load(FLUX, "attempts", prompt_sets=["harvest"], also={"weather": "rain"})
    project.buy(project.write("winter", ["a medlar"]))
    warehouse.load(FLUX, "attempts", prompt_sets=["winter"])
    rows = warehouse.rows(f"SELECT prompt, weather FROM {FLUX} ORDER BY prompt")
    assert rows == [("a medlar", None), ("a pear", None), ("a plum", "rain")]


def test_a_table_exists_before_its_first_row_and_accepts_rows_later(project: Project, warehouse: Warehouse) -> None:
    names = [FLUX, REALITY, TEXT, "attempts"]
    warehouse.load(*names)
    for name in names:
        columns = "generation_id, prompt_set, cost_usd, api_origin"
        assert warehouse.rows(f"SELECT {columns} FROM {name}") == []
    project.buy(project.write("fruit", ["a pear"]))
    warehouse.load(*names)
    assert warehouse.rows(f"SELECT prompt FROM {FLUX}") == [("a pear",)]
    assert warehouse.rows(f"SELECT count(*) FROM {REALITY}") == [(0,)]


def test_concurrent_loads_take_turns_and_lose_nothing(project: Project, warehouse: Warehouse) -> None:
    keys = [project.write(f"set{number}", [f"pear {number}"]) for number in range(3)]
    project.buy(*keys)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda key: warehouse.load(FLUX, "attempts", prompt_sets=[key]), keys))
    assert warehouse.rows(f"SELECT prompt_set FROM {FLUX} ORDER BY 1") == [("set0",), ("set1",), ("set2",)]
    assert warehouse.rows("SELECT count(*), sum(cost_usd) FROM attempts") == [(3, project.charged_usd)]


def test_the_summaries_are_created_beside_the_rows(project: Project, warehouse: Warehouse) -> None:
    project.buy(project.write("fruit", ["a pear", "a plum"]))
    warehouse.load(*(model.resource for model in MODELS), "attempts")
    load(warehouse.settings, usage_source())
    load(warehouse.settings, usage_source())
    (row,) = [row for row in read_table(warehouse.settings, "usage_by_model") if row["generations"]]
    assert (row["generations"], row["succeeded"], row["cost_usd"]) == (2, 2, project.charged_usd)


def test_a_lost_ledger_is_restored_from_the_destination(project: Project, warehouse: Warehouse) -> None:
    models = {FLUX: {"steps": 3}, REALITY: {}}
    project.buy(project.write("fruit", ["a pear", "a plum"], models=models))
    warehouse.load(*(model.resource for model in MODELS), "attempts")
    said: list[str] = []
    remembered = read_back(warehouse.settings, say=said.append)
    assert said == []
    assert len(remembered.memberships) == len(remembered.generations) == 4
    found = [row for row in remembered.generations.values() if row["resource"] == FLUX]
    assert [row["parameters"] for row in found] == [{"steps": 3}] * 2
    assert sum(rows[0]["cost_usd"] for rows in remembered.attempts.values()) == project.charged_usd


def test_the_dataset_can_be_queried_by_its_name(project: Project, warehouse: Warehouse, tmp_path: Path) -> None:
    project.buy(project.write("fruit", ["a pear"]))
    warehouse.load(FLUX, "attempts")
    tables, rows = last_line(project.python(DATASET, cwd=tmp_path))
    assert {FLUX, "attempts"} <= set(tables)
    assert rows == [{"prompt": "a pear", "status": "succeeded"}]
