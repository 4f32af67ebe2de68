"""What the demonstration prints at its end fits a terminal, and its commands and paths can be copied from it."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from segmind_dagster.data_folder import opened
from segmind_dagster.orchestration.demo import print_money, print_places
from segmind_dagster.orchestration.local import LocalProject
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from segmind_dagster.settings import Settings

ACCOUNT = {"charged_usd": "0", "charges": 93, "submissions": 95}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # outside the project, so that its path is shown whole
    data = tmp_path / ("a_folder_with_a_long_name" * 3) / "demo_data"
    for name, value in {"API_URL": "http://127.0.0.1:8473", "DATA_DIR": str(data), "API_KEY": "sandbox"}.items():
        monkeypatch.setenv(f"SEGMIND_{name}", value)
    (tmp_path / "project" / ".dlt").mkdir(parents=True)
    return load_settings(project_dir=tmp_path / "project")


def printed(settings: Settings) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=80)
    with opened(settings):
        pass
    print_money(console, settings, Decimal(0), ACCOUNT)
    print_places(console, LocalProject(settings.project_dir, settings.data_dir, is_sandboxed=True), settings, 41.0)
    return out.getvalue().splitlines()


def test_every_path_and_command_is_one_line(settings: Settings) -> None:
    lines = printed(settings)
    data = settings.data_dir
    assert f"  Galleries  {data}/galleries/<prompt set>/index.html" in lines
    assert f"  Database   {data}/segmind.duckdb" in lines
    command = f"SEGMIND_API_URL=http://127.0.0.1:8473 SEGMIND_DATA_DIR={data} .venv/bin/segmind-dagster status"
    assert f"  {command}" in lines
    assert "  .venv/bin/dlt pipeline segmind info" in lines


def test_lines_without_a_path_fit_eighty_columns(settings: Settings) -> None:
    lines = printed(settings)
    assert max(len(line) for line in lines if str(settings.data_dir) not in line) <= 80
    assert "Provider  93 charges, $0.000000: the same" in lines
    assert "          95 jobs accepted, 2 of them failed, free of charge" in lines
