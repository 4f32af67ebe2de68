"""`gallery` and `report`: where the pages are, what they hold, and what is said when there is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab.cli_project import run

from segmind_dagster.orchestration.build import build_definitions
from segmind_dagster.orchestration.resources import SegmindResource

if TYPE_CHECKING:
    from lab.cli_project import Project


def test_gallery_writes_the_sets_that_are_named_and_says_where(project: Project, tmp_path: Path) -> None:
    for key in ("apple", "pear"):
        project.generate(project.write(key, 2))
    answer = run("gallery", "pear")
    page = project.data / "galleries/pear/index.html"
    assert (answer.code, answer.out) == (0, f"pear: 2 stored\n  {page}\n")
    assert page.is_file()
    assert not (project.data / "galleries/apple").exists()
    elsewhere = run("gallery", "apple", "--output", str(tmp_path / "out"))
    assert str(tmp_path / "out/apple/index.html") in elsewhere.out
    assert project.posts == 4


def test_gallery_without_a_name_writes_all_sets(project: Project) -> None:
    for key in ("apple", "pear"):
        project.generate(project.write(key, 1))
    answer = run("gallery")
    assert answer.code == 0
    assert sorted(path.name for path in (project.data / "galleries").iterdir()) == ["apple", "pear"]


def test_gallery_before_anything_was_asked_for_says_so(project: Project) -> None:
    answer = run("gallery")
    assert (answer.code, answer.out) == (
        0,
        "No prompt set has asked for anything yet. Materialize one, then try again.\n",
    )


def test_gallery_of_a_set_that_the_ledger_does_not_know_is_refused(project: Project) -> None:
    project.generate(project.write("apple", 1))
    answer = run("gallery", "../apple", "quince")
    assert answer.code == 2
    assert "'../apple', 'quince'" in answer.err
    assert "The ledger knows: apple." in answer.err
    assert not (project.data / "galleries").exists()


def test_report_before_anything_was_loaded_says_so(project: Project) -> None:
    answer = run("report")
    assert answer.code == 0
    assert answer.out.startswith("Nothing has been loaded yet, so no page was written")


def test_report_before_any_summary_was_made_is_a_page_that_says_so(project: Project) -> None:
    project.generate(project.write("apple", 1))
    assert run("reload").code == 0
    answer = run("report")
    page = project.data / "usage_report.html"
    assert answer.code == 0
    assert "hold nothing yet" in answer.out
    assert answer.out.endswith(f"{page}\n")
    assert page.is_file()


def test_report_shows_what_was_charged(project: Project, tmp_path: Path) -> None:
    import dagster as dg

    project.generate(project.write("apple", 2))
    assert run("reload").code == 0
    keys = [dg.AssetKey(["usage", name]) for name in ("by_day", "by_model", "by_prompt_set", "by_failure")]
    job = build_definitions(segmind=SegmindResource()).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(instance=instance, asset_selection=keys)
    answer = run("report", "--output", str(tmp_path / "march.html"))
    assert (answer.code, answer.out) == (0, f"{tmp_path / 'march.html'}\n")
    page = Path(tmp_path / "march.html").read_text(encoding="utf-8")
    assert f"${project.charged_usd:.4f}" in page
    assert "2 of 2" in page


def test_report_into_an_unwritable_folder_is_one_message(project: Project, tmp_path: Path) -> None:
    project.generate(project.write("apple", 1))
    assert run("reload").code == 0
    (tmp_path / "file").write_text("")
    said = run("report", "--output", str(tmp_path / "file" / "report.html"))
    assert said.code == 1
    assert "Traceback" not in said.err
    assert "name another one with `--output`" in said.err
