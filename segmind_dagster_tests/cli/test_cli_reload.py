"""`segmind-dagster reload` fills one destination after another from the ledger, and Segmind hears nothing of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from lab.cli_project import run
from lab.project import FLUX, REALITY

from segmind_dagster.settings import load_settings
from segmind_dagster.source.pipeline import warehouse

if TYPE_CHECKING:
    from pathlib import Path

    from lab.cli_project import Project


def books(project: Project) -> tuple[object, ...]:
    """What the provider has seen and charged, every request of every kind."""
    account = project.server.account()
    return account["charged_usd"], account["requests"]


def contents() -> list[list[tuple[object, ...]]]:
    """The rows of the configured destination."""
    columns = "prompt_set, generation_id, prompt, status, cost_usd, is_reused, output_uri"
    with warehouse(load_settings(), purpose="a test") as pipeline, pipeline.sql_client() as client:
        found = []
        for query in (
            f"SELECT {columns} FROM {FLUX} ORDER BY 1, 2",
            f"SELECT {columns} FROM {REALITY} ORDER BY 1, 2",
            "SELECT generation_id, attempt, cost_usd FROM attempts ORDER BY 1, 2",
        ):
            with client.execute_query(query) as cursor:
                found.append([tuple(row) for row in cursor.fetchall()])
    return found


@pytest.mark.postgres
def test_reload_moves_the_warehouse_from_duckdb_to_postgresql_to_a_folder_free_of_charge(
    project: Project, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.generate(project.write("fruit", ["a pear", "a plum"], models=[FLUX, REALITY]))
    project.generate(project.write("harvest", ["a plum", "a fig"], models=[FLUX]))
    assert run("reload").code == 0
    in_duckdb = contents()
    assert [len(rows) for rows in in_duckdb] == [4, 2, 5]
    assert sum(row[2] for row in in_duckdb[2]) == project.charged_usd  # type: ignore[misc]
    before = books(project)
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", postgres_url.replace("@", ":unused@"))
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", f"file://{tmp_path}/lake")
    for destination in ("postgres", "filesystem"):
        monkeypatch.setenv("SEGMIND_DESTINATION", destination)
        for _ in range(2):
            answer = run("reload")
            assert answer.code == 0, answer.err
            assert contents() == in_duckdb
    assert books(project) == before
    monkeypatch.delenv("SEGMIND_DESTINATION")
    assert contents() == in_duckdb


def test_reload_into_another_destination_does_not_mention_the_former_one(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.generate(project.write("fruit", ["a pear"]))
    assert run("reload").code == 0
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    monkeypatch.setenv("SEGMIND_DESTINATION", "filesystem")
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", f"file://{tmp_path}/lake")
    logging.getLogger("dlt").addHandler(handler)
    try:
        assert run("reload").code == 0
    finally:
        logging.getLogger("dlt").removeHandler(handler)
    assert said == []


def test_reload_into_an_unreachable_destination_is_one_red_message(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.generate(project.write("fruit", ["a pear"]))
    monkeypatch.setenv("SEGMIND_DESTINATION", "postgres")
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", "postgresql://loader:hunter2@127.0.0.1:1/media")
    message = run("reload").refusal()
    assert "The destination 'postgres' cannot be used" in message
    assert "Connection refused" in message
    assert "nothing is paid for twice" in message
    assert "hunter2" not in message
