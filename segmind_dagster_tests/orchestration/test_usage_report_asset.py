"""The report asset: a page from the summaries, with its charts as pictures that the UI shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from lab.dagster_project import USAGE
from lab.project import REALITY

if TYPE_CHECKING:
    from lab.dagster_project import DagsterLab

MODEL, REPORT = f"segmind/{REALITY}", "usage/report"


def test_the_report_is_made_of_the_summaries_of_the_same_run(lab: DagsterLab) -> None:
    lab.run(MODEL, partition=lab.write("fruit", 3))
    run = lab.run(*USAGE, REPORT)
    assert run.is_success, run.errors()
    figures = run.figures(REPORT)
    assert figures["page"] == str(lab.data / "usage_report.html")
    assert f"${lab.charged_usd:.4f}" in Path(figures["page"]).read_text(encoding="utf-8")
    assert figures["charged"] == f"${lab.charged_usd:.4f}"
    assert figures["stored of what is asked for"] == "3 of 3"
    assert figures["charts"].count("data:image/png;base64,") >= 4
    assert len(figures["charts"]) < 100_000


def test_before_anything_was_loaded_the_report_is_an_empty_page(lab: DagsterLab) -> None:
    figures = lab.run(REPORT).figures(REPORT)
    assert "hold nothing yet" in Path(figures["page"]).read_text(encoding="utf-8")
    assert "charts" not in figures
    assert "charged" not in figures


def test_the_report_is_requested_once_together_with_the_summaries(lab: DagsterLab) -> None:
    def tick(cursor: object = None) -> dg.EvaluateAutomationConditionsResult:
        return dg.evaluate_automation_conditions(
            defs=lab.definitions,
            instance=lab.instance,
            asset_selection=dg.AssetSelection.groups("usage"),
            cursor=cursor,
        )

    key = lab.write("fruit", 1)
    quiet = tick()
    lab.run(MODEL, partition=key)
    requested = tick(quiet.cursor)
    assert requested.total_requested == len(USAGE) + 1
    job = lab.definitions.resolve_implicit_global_asset_job_def()
    selected = [dg.AssetKey(name.split("/")) for name in (*USAGE, REPORT)]
    job.execute_in_process(instance=lab.instance, asset_selection=selected)
    assert tick(requested.cursor).total_requested == 0
