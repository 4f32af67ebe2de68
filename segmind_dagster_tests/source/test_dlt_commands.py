"""What a dlt user types: a plain script, `dataset()`, `dlt pipeline segmind info`; from any working folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.project import FLUX

if TYPE_CHECKING:
    import subprocess

    from lab.source_project import Project

SCRIPT = """
import dlt
from segmind_dagster.source import segmind_source
pipeline = dlt.pipeline("segmind", destination="duckdb", dataset_name="segmind_data")
source = segmind_source(prompt_sets=["still_life"], models=["fast_flux_schnell"])
pipeline.run(source.with_resources("fast_flux_schnell", "attempts", "credits"))
"""
DATASET = """
import json, dlt
dataset = dlt.pipeline("segmind").dataset()
rows = dataset.fast_flux_schnell.select("prompt", "status").df()
print(json.dumps([sorted(dataset.tables), rows.to_dict("records")]))
"""


def last_line(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_plain_script_generates_and_loads_and_buys_nothing_the_second_time(project: Project) -> None:
    project.write("still_life", ["a pear", "a plum"])
    done = project.python(SCRIPT, cwd=project.folder)
    assert done.returncode == 0, done.stderr
    assert project.posts == 2
    tables, rows = last_line(project.python(DATASET, cwd=project.folder))
    assert {"attempts", "credits", FLUX} <= set(tables)
    assert sorted(row["prompt"] for row in rows) == ["a pear", "a plum"]
    assert {row["status"] for row in rows} == {"succeeded"}
    again = project.python(SCRIPT, cwd=project.folder)
    assert again.returncode == 0, again.stderr
    assert project.posts == 2
    assert len(last_line(project.python(DATASET, cwd=project.folder))[1]) == 2


def test_the_dataset_is_the_projects_own_file_from_whatever_folder(project: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    project.buy(project.write("fruit", ["a pear"]))
    project.load()
    _, rows = last_line(project.python(DATASET, cwd=elsewhere))
    assert rows == [{"prompt": "a pear", "status": "succeeded"}]
    assert list(elsewhere.rglob("*.duckdb")) == []


def test_dlt_pipeline_info_works_in_the_project_after_a_load_from_elsewhere(project: Project) -> None:
    project.buy(project.write("fruit", ["a pear"]))
    project.load()
    program = Path(sys.executable).with_name("dlt")
    done = project.run(str(program), "pipeline", "segmind", "info", cwd=project.folder)
    assert done.returncode == 0, done.stderr
    assert "segmind_data" in done.stdout
    assert FLUX in done.stdout
