"""Commands that only look make nothing, neither in an empty folder nor in an empty database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab.cli_project import run

if TYPE_CHECKING:
    from pathlib import Path

    from lab.cli_project import Project

LOOKING = (
    ("status",),
    ("plan", "fruit"),
    ("plan", "--all"),
    ("resolve",),
    ("collect",),
    ("gallery",),
    ("report",),
    ("export", "fruit", "--output", "{folder}/out"),
)


def everything(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*")}


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_reading_an_empty_project_creates_no_file(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    here = tmp_path / "elsewhere"
    here.mkdir()
    monkeypatch.chdir(here)
    project.write("fruit")
    before = everything(tmp_path)
    answer = run(*(word.format(folder=project.folder) for word in command))
    assert "Traceback" not in answer.err
    assert answer.code == (1 if command[0] == "export" else 0), answer
    assert everything(tmp_path) == before


@pytest.mark.postgres
def test_reading_an_empty_database_creates_no_table(
    project: Project, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    monkeypatch.setenv("SEGMIND_LEDGER_URL", postgres_url)
    assert "Nothing here yet" in run("status").out
    assert run("collect").out == "Nothing to collect.\n"
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    project.generate(project.write("fruit", 1))
    assert "succeeded" in run("status").out


@pytest.mark.parametrize("command", [("status",), ("resolve",), ("collect",)])
def test_outputs_without_a_ledger_are_not_taken_for_an_empty_project(
    project: Project, command: tuple[str, ...]
) -> None:
    project.generate(project.write("fruit", 1))
    for path in project.data.glob("ledger.sqlite*"):
        path.unlink()
    before = everything(project.data)
    message = run(*command).refusal()
    assert f"{project.data}/ledger.sqlite is empty" in message
    assert "segmind-dagster rebuild" in message
    assert everything(project.data) == before
