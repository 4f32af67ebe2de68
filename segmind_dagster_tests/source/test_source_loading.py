"""From the ledger to the warehouse: single rows, money as the sandbox charged it, tables even where nothing is."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
from lab.project import FLUX, REALITY
from lab.source_project import ROWS

from segmind_dagster.errors import DatasetOriginError, SegmindDagsterError
from segmind_dagster.registry import MODELS
from segmind_dagster.runner.poll_schedule import PollSchedule
from segmind_dagster.sandbox import Faults
from segmind_dagster.source import build_source, load, segmind_pipeline, segmind_source, tables

if TYPE_CHECKING:
    from conftest import OpenProject
    from lab.source_project import Project


def test_rows_hold_what_was_bought_and_its_money_is_what_the_sandbox_charged(project: Project) -> None:
    project.buy(project.write("fruit", ["a pear", "a plum"], models=[FLUX, REALITY], defaults={}, seed=7))
    project.load()
    for table in (FLUX, REALITY):
        rows = project.rows(f"SELECT prompt, seed, status, is_reused, is_current, output_uri, width FROM {table}")
        assert sorted(row[:5] for row in rows) == [
            ("a pear", 7, "succeeded", False, True),
            ("a plum", 7, "succeeded", False, True),
        ]
        assert all(Path(row[5]).is_file() and row[6] == 64 for row in rows)
    ((spent, sent),) = project.rows("SELECT sum(cost_usd), count(*) FROM attempts")
    assert (spent, sent) == (project.charged_usd, 4)
    ((by_table,),) = project.rows(
        f"SELECT sum(cost_usd) FROM (SELECT cost_usd FROM {FLUX} UNION ALL SELECT cost_usd FROM {REALITY})"
    )
    assert by_table == project.charged_usd
    assert project.rows("SELECT DISTINCT api_origin FROM attempts") == [(project.server.url,)]


def test_params_are_one_json_column_and_money_is_decimal(project: Project) -> None:
    project.buy(project.write("fruit", ["a pear"], defaults={"steps": 3, "aspect_ratio": "16:9"}))
    project.load()
    ((params, cost),) = project.rows(f"SELECT params, cost_usd FROM {FLUX}")
    assert json.loads(params) == {"steps": 3, "aspect_ratio": "16:9"}
    assert isinstance(cost, Decimal)
    types = dict(project.rows(f"SELECT column_name, column_type FROM (DESCRIBE {FLUX})"))
    assert (types["cost_usd"], types["params"], types["submitted_at"]) == (
        "DECIMAL(38,9)",
        "JSON",
        "TIMESTAMP WITH TIME ZONE",
    )


def test_loading_again_and_again_keeps_every_row_single(project: Project) -> None:
    key = project.write("fruit", ["a pear", "a plum"])
    project.buy(key)
    project.load()
    project.load()
    project.write("fruit", ["a pear", "a quince"])
    project.buy(key)
    project.load(prompt_sets=[key])
    rows = project.rows(f"SELECT prompt, is_current FROM {FLUX} ORDER BY prompt")
    assert rows == [("a pear", True), ("a plum", False), ("a quince", True)]
    assert project.rows("SELECT count(*), sum(cost_usd) FROM attempts") == [(3, project.charged_usd)]


def test_outputs_paid_by_another_set_cost_nothing_and_show_the_savings(project: Project) -> None:
    project.buy(project.write("fruit", ["a pear", "a plum"]))
    project.buy(project.write("harvest", ["a plum", "a fig"]))
    project.load()
    rows = {
        (prompt_set, prompt): (cost, saved, is_reused)
        for prompt_set, prompt, cost, saved, is_reused in project.rows(
            f"SELECT prompt_set, prompt, cost_usd, saved_usd, is_reused FROM {FLUX}"
        )
    }
    plum_cost = rows["fruit", "a plum"][0]
    assert rows["harvest", "a plum"] == (0, plum_cost, True)
    assert plum_cost > 0
    assert {key: row[1:] for key, row in rows.items() if key != ("harvest", "a plum")} == {
        ("fruit", "a pear"): (0, False), ("fruit", "a plum"): (0, False), ("harvest", "a fig"): (0, False),
    }  # fmt: skip
    assert sum(row[0] for row in rows.values()) == project.charged_usd
    assert project.rows("SELECT count(*), sum(cost_usd) FROM attempts") == [(3, project.charged_usd)]


def test_only_the_sets_asked_for_are_loaded_with_the_attempts_behind_them(project: Project) -> None:
    project.buy(project.write("fruit", ["a pear"]), project.write("harvest", ["a fig", "a plum"]))
    project.load(prompt_sets=["fruit"])
    assert project.rows(f"SELECT prompt_set FROM {FLUX}") == [("fruit",)]
    assert project.rows("SELECT prompt_set FROM attempts") == [("fruit",)]
    project.load(prompt_sets=["harvest"])
    assert project.rows(f"SELECT prompt_set, count(*) FROM {FLUX} GROUP BY 1 ORDER BY 1") == [
        ("fruit", 1),
        ("harvest", 2),
    ]


def test_failures_are_rows_with_their_kind_and_every_post_is_an_attempt(open_project: OpenProject) -> None:
    project = open_project(faults=Faults(script=["server_error", "invalid", "accepted_then_reset"]))
    # the fourth shows how far the history has come
    project.buy(project.write("fruit", ["a pear", "a plum", "a fig", "a date"]))
    project.load()
    statuses = project.rows(f"SELECT status, failure_kind, cost_usd > 0 FROM {FLUX} ORDER BY status, failure_kind")
    assert statuses == [
        ("failed", "invalid_request", False),
        *[("succeeded", None, True)] * 3,
    ]
    attempts = project.rows("SELECT status, failure_kind, http_status FROM attempts ORDER BY 1, 2, 3")
    assert len(attempts) == project.posts == 5
    assert ("failed", "server_error", 500) in attempts
    assert ("failed", "invalid_request", 406) in attempts
    assert project.rows("SELECT sum(cost_usd) FROM attempts") == [(project.charged_usd,)]


def test_every_table_exists_before_anything_is_generated(project: Project) -> None:
    names = [*(model.resource for model in MODELS), "attempts"]
    project.load(*names)
    assert project.tables() == set(names)
    for name in names:
        assert project.rows(f"SELECT count(*) FROM {name}") == [(0,)]
        columns = {column for (column,) in project.rows(f"SELECT column_name FROM (DESCRIBE {name})")}
        assert {"generation_id", "prompt_set", "cost_usd", "api_origin"} <= columns


def test_a_load_of_one_model_leaves_the_others_tables_in_the_dataset(project: Project) -> None:
    project.buy(project.write("fruit", ["a pear"], models=[FLUX, REALITY]))
    project.load()
    project.load(FLUX, "attempts")
    pipeline = segmind_pipeline(project.settings())
    assert {FLUX, REALITY, "attempts"} <= set(pipeline.dataset().tables)
    assert len(pipeline.dataset()[REALITY].fetchall()) == 1


def test_two_projects_share_dlts_folder_and_keep_their_own_rows(open_project: OpenProject) -> None:
    one, two = open_project(), open_project()
    one.buy(one.write("fruit", ["a pear"]))
    two.buy(two.write("fruit", ["a plum", "a fig"]))
    for project in (one, two, one):
        project.load()
    assert one.rows(f"SELECT prompt FROM {FLUX}") == [("a pear",)]
    assert two.rows(f"SELECT count(*) FROM {FLUX}") == [(2,)]


def test_a_source_that_generates_stops_with_the_reason_when_nothing_could_be_bought(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**project.environ, "SEGMIND_API_KEY": "SG_0123456789abcdef"}.items():
        monkeypatch.setenv(name, value)
    source = segmind_source(prompt_sets=[project.write("fruit", ["a pear"])], models=[FLUX])
    with pytest.raises(Exception, match="Check SEGMIND_API_KEY") as raised:
        list(source.resources[FLUX])
    causes = [raised.value, raised.value.__cause__]
    assert any(isinstance(cause, SegmindDagsterError) for cause in causes)
    assert project.posts == 0


def test_a_source_with_generate_false_only_reads(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in project.environ.items():
        monkeypatch.setenv(name, value)
    key = project.write("fruit", ["a pear"])
    assert list(segmind_source(prompt_sets=[key], models=[FLUX], generate=False).resources[FLUX]) == []
    assert project.posts == 0


def test_an_existing_table_costs_no_load_job(project: Project) -> None:
    def jobs() -> set[str]:
        source = build_source(project.settings(), prompt_sets=["fruit"], models=[FLUX]).with_resources(*ROWS)
        (package,) = load(project.settings(), source)[0].load_packages
        return {job.job_file_info.table_name for job in package.jobs["completed_jobs"]}

    project.buy(project.write("fruit", ["a pear"]))
    assert jobs() >= set(ROWS)
    before = project.tables()
    assert {name for name in jobs() if not name.startswith("_dlt")} == {FLUX, "attempts"}
    assert project.tables() == before
    assert project.rows(f"SELECT count(*) FROM {FLUX}") == [(1,)]


def test_a_table_without_rows_gets_a_column_that_was_added_since(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.buy(project.write("fruit", ["a pear"]))
    with monkeypatch.context() as earlier:
        columns = {name: hints for name, hints in tables.MODEL_COLUMNS.items() if name != "provider_sha256"}
        earlier.setattr(tables, "MODEL_COLUMNS", columns)
        project.load()
    described = f"SELECT column_name FROM (DESCRIBE {REALITY})"
    assert ("provider_sha256",) not in project.rows(described)
    project.load()
    assert ("provider_sha256",) in project.rows(described)


def test_rows_of_another_account_never_replace_those_that_are_there(
    open_project: OpenProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(tmp_path / "shared.duckdb"))
    mine, theirs = open_project(), open_project()
    for project in (mine, theirs):
        project.buy(project.write("fruit", ["a pear"]))
    mine.load()
    with pytest.raises(DatasetOriginError, match="nothing was loaded") as raised:
        theirs.load()
    assert (raised.value.recorded, raised.value.configured) == (mine.server.url, theirs.server.url)
    mine.load()
    with duckdb.connect(str(tmp_path / "shared.duckdb")) as connection:
        rows = connection.execute("SELECT api_origin, sum(cost_usd) FROM segmind_data.attempts GROUP BY 1").fetchall()
    assert rows == [(mine.server.url, mine.charged_usd)]


def test_a_script_with_paid_work_not_stored_warns_on_standard_error(
    open_project: OpenProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = open_project(faults=Faults(script=["stuck"]))
    project.write("fruit", ["a pear", "a plum", "a fig"])
    for name, value in project.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(PollSchedule, "deadline_s", lambda _: 0.5)
    rows = list(segmind_source(prompt_sets=["fruit"], models=[FLUX]).resources[FLUX])
    assert len(rows) == 3
    said = capsys.readouterr().err
    assert said.count("1 generation is paid for, or may be, and not stored") == 1
    assert "segmind-dagster collect" in said
