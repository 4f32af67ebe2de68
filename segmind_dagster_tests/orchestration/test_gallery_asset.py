"""The gallery asset: pages of prompt sets, one for each partition, made again when a model was materialized."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from lab.project import FLUX, REALITY

from segmind_dagster.sandbox import Faults, ScriptedFault

if TYPE_CHECKING:
    import pytest
    from conftest import OpenLab
    from lab.dagster_project import DagsterLab

MODEL, GALLERY = f"segmind/{REALITY}", "gallery/page"


def test_a_set_becomes_a_page_beside_its_outputs(lab: DagsterLab) -> None:
    key = lab.write("fruit", 3)
    assert lab.run(MODEL, partition=key).is_success
    figures = lab.run(GALLERY, partition=key).figures(GALLERY, key)
    assert figures["page"] == str(lab.data / "galleries/fruit/index.html")
    assert "fruit number 2" in Path(figures["page"]).read_text(encoding="utf-8")
    assert Path(figures["contact sheet"]).is_file()
    assert (figures["generations"], figures["pictures"], figures["generations stored"]) == (3, 3, 3)
    assert figures["paid by this set"] == f"${lab.charged_usd.normalize()}"
    assert figures["preview"].count("data:image/jpeg;base64,") == 3
    assert len(figures["preview"]) < 100_000


def test_a_gallery_in_the_models_run_shows_its_outputs(lab: DagsterLab) -> None:
    key = lab.write("fruit", 2)
    run = lab.run(MODEL, GALLERY, partition=key)
    assert run.is_success, run.errors()
    assert run.figures(GALLERY, key)["pictures"] == 2


def test_a_range_of_sets_is_one_run_with_figures_for_each(lab: DagsterLab) -> None:
    for key, prompts in (("apple", 1), ("pear", 2)):
        lab.run(MODEL, partition=lab.write(key, prompts))
    run = lab.run_range("apple", "pear", GALLERY)
    assert run.is_success, run.errors()
    assert {key: run.figures(GALLERY, key)["pictures"] for key in ("apple", "pear")} == {"apple": 1, "pear": 2}


def test_a_gallery_of_a_set_that_was_never_run_says_so(lab: DagsterLab) -> None:
    key = lab.write("fruit", 1)
    figures = lab.run(GALLERY, partition=key).figures(GALLERY, key)
    assert "Nothing has been asked for" in Path(figures["page"]).read_text(encoding="utf-8")
    assert figures["generations"] == 0
    assert "preview" not in figures


def test_a_set_with_only_failures_shows_the_reasons(open_lab: OpenLab) -> None:
    refused = ScriptedFault(kind="invalid", slug="sdxl1.0-newreality-lightning")
    lab = open_lab(faults=Faults(script=[refused, refused]))
    key = lab.write("fruit", 2)
    lab.run(MODEL, partition=key)
    figures = lab.run(GALLERY, partition=key).figures(GALLERY, key)
    assert (figures["generations failed"], figures["pictures"]) == (2, 0)
    assert figures["paid by this set"] == "$0.00"
    assert "invalid_request" in Path(figures["page"]).read_text(encoding="utf-8")


def test_the_page_is_right_although_the_load_failed(lab: DagsterLab, monkeypatch: pytest.MonkeyPatch) -> None:
    key = lab.write("fruit", 2)
    # a folder where the database should be
    (lab.data / "segmind.duckdb").mkdir(parents=True)
    assert not lab.run(MODEL, partition=key).is_success
    assert lab.posts == 2
    assert lab.run(GALLERY, partition=key).figures(GALLERY, key)["pictures"] == 2


def test_an_unwritable_gallery_folder_is_one_clear_failure(lab: DagsterLab) -> None:
    key = lab.write("fruit", 1)
    lab.run(MODEL, partition=key)
    (lab.data / "galleries").write_text("a file where the folder should be")
    said = lab.run(GALLERY, partition=key).failure()
    assert "galleries/fruit" in said
    assert "untouched" in said


PAGE = dg.AssetKey(["gallery", "page"])


class Automation:
    """The ticks of the automation sensor, for the galleries alone."""

    def __init__(self, lab: DagsterLab) -> None:
        self._lab = lab
        self._cursor: object = None

    def requested(self) -> set[str]:
        """Prompt sets whose galleries this tick asks for."""
        result = dg.evaluate_automation_conditions(
            defs=self._lab.definitions,
            instance=self._lab.instance,
            asset_selection=dg.AssetSelection.groups("gallery"),
            cursor=self._cursor,
        )
        self._cursor = result.cursor
        return set(result.get_requested_partitions(PAGE))


def test_a_gallery_is_refreshed_once_when_a_model_of_its_set_was_materialized_and_no_other_is(lab: DagsterLab) -> None:
    automation = Automation(lab)
    lab.write("fruit", 1, models=[REALITY, FLUX])
    lab.write("pear", 1)
    assert automation.requested() == set()
    lab.run(MODEL, partition="fruit")
    assert automation.requested() == {"fruit"}
    assert automation.requested() == set()
    lab.run_range("fruit", "pear", MODEL)
    assert automation.requested() == {"fruit", "pear"}
    assert automation.requested() == set()


def test_a_materialization_during_a_gallery_run_refreshes_it_afterwards(lab: DagsterLab) -> None:
    automation = Automation(lab)
    key = lab.write("fruit", 1, models=[REALITY, FLUX])
    automation.requested()
    lab.run(MODEL, partition=key)
    assert automation.requested() == {key}
    run = lab.instance.create_run_for_job(
        lab.definitions.resolve_implicit_global_asset_job_def(),
        asset_selection={PAGE},
        tags={"dagster/partition": key},
        status=dg.DagsterRunStatus.STARTED,
    )
    lab.run(f"segmind/{FLUX}", partition=key)
    assert automation.requested() == set()
    assert automation.requested() == set()
    lab.instance.report_run_canceled(run)
    assert automation.requested() == {key}
    assert automation.requested() == set()


def test_a_gallery_made_in_the_models_own_run_is_not_made_again(lab: DagsterLab) -> None:
    automation = Automation(lab)
    key = lab.write("fruit", 1)
    automation.requested()
    selected = [dg.AssetKey(MODEL.split("/")), PAGE]
    job = lab.definitions.resolve_implicit_global_asset_job_def()
    job.execute_in_process(instance=lab.instance, asset_selection=selected, partition_key=key)
    assert automation.requested() == set()
