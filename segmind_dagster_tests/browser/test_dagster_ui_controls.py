"""What a person switches and stops in Dagster's own UI: schedules, sensors, runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from playwright.sync_api import expect
from test_dagster_ui import FLUX, SOON, choose_partition, materialized, press_materialize

from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from pathlib import Path

    from lab.dagster_ui import DagsterUi
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
TREES = 900


def trees(ui: DagsterUi) -> list[dict[str, Any]]:
    """The orchard's jobs, by the sandbox's own account."""
    return [job for job in ui.sandbox.account()["jobs"] if str(job["body"].get("prompt", "")).startswith("tree number")]


def test_a_schedule_is_there_stopped_and_can_be_switched_on_and_off(ui: DagsterUi, page: Page, tmp_path: Path) -> None:
    page.goto(f"{ui.url}/automation")
    for name in ("account_refresh", "prompt_set_refresh", "prompt_files"):
        expect(page.get_by_text(name).first).to_be_visible()
    page.screenshot(path=tmp_path / "automation.png")
    page.get_by_role("link", name="account_refresh").click()
    expect(page.get_by_text("UTC").first).to_be_visible()
    switch = page.get_by_role("checkbox").first
    expect(switch).not_to_be_checked()
    for is_on in (True, False):
        switch.dispatch_event("click")
        expect(switch).to_be_checked(checked=is_on)
        with ui.instance() as instance:
            states = {state.instigator_name: state.status for state in instance.all_instigator_state()}
        assert (states["account_refresh"].value == "RUNNING") is is_on
    page.screenshot(path=tmp_path / "schedule.png")


def test_a_run_that_is_terminated_drains_and_its_partition_is_not_shown_as_done(
    ui: DagsterUi, page: Page, tmp_path: Path
) -> None:
    ui.write("orchard", [f"tree number {number}" for number in range(TREES)])
    with ui.instance() as instance:
        instance.add_dynamic_partitions("prompt_sets", ["orchard"])
    dialog = press_materialize(ui, page, FLUX)
    choose_partition(dialog, page, "orchard")
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Launch 1 run").click()
    expect(dialog).to_be_hidden()
    with ui.instance() as instance:
        run = next(run for run in instance.get_runs() if run.tags.get("dagster/partition") == "orchard")
    page.goto(f"{ui.url}/runs/{run.run_id}")
    while len(trees(ui)) < 50:
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Terminate").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Terminate").click()
    expect(page.get_by_text("Canceled").first).to_be_visible(timeout=SOON)
    page.screenshot(path=tmp_path / "terminated.png")
    assert len(trees(ui)) < TREES
    assert "orchard" not in materialized(ui, FLUX)

    dialog = press_materialize(ui, page, FLUX)
    choose_partition(dialog, page, "orchard")
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Launch 1 run").click()
    expect(dialog).to_be_hidden()
    while "orchard" not in materialized(ui, FLUX):
        page.wait_for_timeout(500)
    orchard = trees(ui)
    assert len(orchard) == TREES
    assert sum(job["charged"] for job in orchard) == TREES


def test_a_check_that_is_red_turns_green_after_the_retry_sensors_own_run(
    ui: DagsterUi, page: Page, tmp_path: Path
) -> None:
    ui.write("cherry", ["a cherry"])
    with ui.instance() as instance:
        instance.add_dynamic_partitions("prompt_sets", ["cherry"])
    ui.sandbox.set_faults(Faults(script=["failed"] * 3))
    dialog = press_materialize(ui, page, FLUX)
    choose_partition(dialog, page, "cherry")
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Launch 1 run").click()
    expect(dialog).to_be_hidden()

    def runs() -> list[dg.DagsterRun]:
        with ui.instance() as instance:
            of_cherry = instance.get_runs(dg.RunsFilter(tags={"dagster/partition": "cherry"}))
        # its gallery is made by runs too
        return [run for run in of_cherry if dg.AssetKey(["segmind", FLUX]) in (run.asset_selection or ())]

    while not (found := runs()) or not found[0].is_finished:
        page.wait_for_timeout(300)
    page.goto(f"{ui.url}/assets/segmind/{FLUX}?view=checks")
    page.get_by_text("all_stored").first.click()
    expect(page.get_by_text("0 of 1 generation").first).to_be_visible()
    page.screenshot(path=tmp_path / "red.png")
    # the sensor looks once a minute
    while len(found := runs()) < 2 or not all(run.is_finished for run in found):
        page.wait_for_timeout(500)
    assert [run.status for run in found] == [dg.DagsterRunStatus.SUCCESS] * 2
    assert "segmind/requested_by" in found[0].tags
    page.reload()
    page.get_by_text("all_stored").first.click()
    expect(page.get_by_text("1 of 1 generation").first).to_be_visible(timeout=SOON)
    page.screenshot(path=tmp_path / "green.png")
    cherries = [job for job in ui.sandbox.account()["jobs"] if "cherr" in job["body"]["prompt"]]
    assert sum(job["charged"] for job in cherries) == 1
