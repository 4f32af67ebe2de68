"""What a person sees and presses in Dagster's own UI: the graph, one partition, all of them, the pictures."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import expect

from segmind_dagster.reports.usage_report import chart_sheet, usage_figures

if TYPE_CHECKING:
    from pathlib import Path

    from lab.dagster_ui import DagsterUi
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

REALITY, FLUX = "sdxl_newreality", "fast_flux_schnell"
SOON, LATER = 60_000, 150_000  # ms; the daemon looks at backfills every half minute


def materialized(ui: DagsterUi, resource: str) -> set[str]:
    with ui.instance() as instance:
        return set(instance.get_materialized_partitions(dg.AssetKey(["segmind", resource])))


def press_materialize(ui: DagsterUi, page: Page, resource: str) -> Locator:
    """Open an asset's page and press Materialize; the dialog that asks for partitions."""
    page.goto(f"{ui.url}/assets/segmind/{resource}")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog").filter(has_text="Partition selection")
    sure = page.get_by_role("button", name="Confirm")
    # Dagster asks first while `prompt_set` was never materialized
    expect(dialog.or_(sure).first).to_be_visible()
    if sure.is_visible():
        sure.click()
    return dialog


def test_the_graph_shows_six_groups_in_the_order_of_the_flow(ui: DagsterUi, page: Page, tmp_path: Path) -> None:
    # the whole graph at a scale at which groups show how many assets they hold
    page.set_viewport_size({"width": 2200, "height": 1000})
    page.goto(f"{ui.url}/asset-groups/")
    boxes = {}
    groups = (("prompts", 1), ("segmind", 7), ("account", 6), ("usage", 6), ("spend", 6), ("gallery", 1))
    for group, assets in groups:
        node = page.locator("svg foreignObject").filter(has_text=re.compile(rf"^{group}\s*{assets}"))
        expect(node).to_have_count(1)
        boxes[group] = node.bounding_box()
    page.screenshot(path=tmp_path / "graph.png")
    left = {group: box["x"] for group, box in boxes.items() if box}
    assert left["prompts"] < left["segmind"] < left["spend"] < left["usage"]


def choose_partition(dialog: Locator, page: Page, key: str) -> None:
    """Pick a partition from the list, which Dagster draws anew, and may close, while it still learns states."""
    item = page.get_by_role("menuitem").filter(has_text=key)
    for attempt in range(6):
        if not item.is_visible():
            dialog.get_by_text("Select a partition").click()
        try:
            item.click(timeout=10_000)
        except PlaywrightTimeoutError:
            if attempt == 5:
                raise
        else:
            return


def test_a_partition_is_materialized_by_hand_and_shows_its_pictures(ui: DagsterUi, page: Page, tmp_path: Path) -> None:
    dialog = press_materialize(ui, page, REALITY)
    choose_partition(dialog, page, "fig")
    page.keyboard.press("Escape")
    page.screenshot(path=tmp_path / "chosen.png")
    dialog.get_by_role("button", name="Launch 1 run").click()
    expect(dialog).to_be_hidden()

    page.goto(f"{ui.url}/assets/segmind/{REALITY}?view=events&partition=fig")
    row = page.locator("tr").filter(has_text="contact sheet")
    expect(row).to_be_visible(timeout=SOON)
    expect(page.locator("tr").filter(has_text="generations succeeded")).to_contain_text("3")
    assert materialized(ui, REALITY) == {"fig"}

    row.get_by_text("Show Markdown").click()
    sheet = page.get_by_role("dialog").filter(has_text="contact sheet")
    images = sheet.locator("img")
    expect(images).to_have_count(3)
    widths = images.evaluate_all("all => Promise.all(all.map(one => one.decode().then(() => one.naturalWidth)))")
    page.screenshot(path=tmp_path / "contact_sheet.png")
    assert widths == [112] * 3
    for caption in ("a fig", "two figs", "a fig tree"):
        expect(sheet.get_by_text(caption, exact=True)).to_be_visible()


def test_a_backfill_over_all_partitions_succeeds(ui: DagsterUi, page: Page, tmp_path: Path) -> None:
    dialog = press_materialize(ui, page, FLUX)
    dialog.get_by_role("button", name="All", exact=True).click()
    dialog.get_by_role("button", name="Launch backfill").click()
    expect(dialog).to_be_hidden()
    with ui.instance() as instance:
        keys = set(instance.get_dynamic_partitions("prompt_sets"))
        (backfill,) = instance.get_backfills()

    page.goto(f"{ui.url}/runs")
    # the smallest part of the page that holds both the link and who launched it is the row
    link = f"//a[contains(@href, '/runs/b/{backfill.backfill_id}')]"
    row = page.locator(f"xpath=({link}/ancestor::*[contains(., 'Manually launched')])[last()]")
    expect(row).to_contain_text(FLUX, timeout=SOON)
    expect(row).to_contain_text("Success", timeout=LATER)
    page.screenshot(path=tmp_path / "backfill.png")
    with ui.instance() as instance:
        runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill.backfill_id}))
    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * len(keys)
    assert materialized(ui, FLUX) == keys >= {"apple", "fig", "pear"}

    page.goto(f"{ui.url}/assets/segmind/{FLUX}?view=partitions")
    expect(page.get_by_text(f"Materialized ({len(keys)})")).to_be_visible()


def test_a_new_prompt_file_becomes_a_partition(ui: DagsterUi, page: Page) -> None:
    ui.write("quince", ["a quince"])
    page.goto(f"{ui.url}/assets/prompt_set?view=partitions")
    expect(page.get_by_text("apple").first).to_be_visible()
    with ui.instance() as instance:
        while "quince" not in instance.get_dynamic_partitions("prompt_sets"):
            page.wait_for_timeout(500)
    page.reload()
    expect(page.get_by_text("quince").first).to_be_visible()


def test_the_charts_of_the_usage_report_are_shown_as_pictures(ui: DagsterUi, page: Page, tmp_path: Path) -> None:
    money = {"attempts": 2, "succeeded": 1, "failed": 1, "cost_usd": Decimal(2), "estimated_cost_usd": Decimal(1)}
    days = [{"day": date(2026, 3, 1 + number), **money} for number in range(9)]
    summaries = {"usage_by_day": days, "usage_by_model": [], "usage_by_prompt_set": [], "usage_by_failure": []}
    charts = chart_sheet(usage_figures(summaries)) or ""
    with ui.instance() as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(dg.AssetKey(["usage", "report"]), metadata={"charts": dg.MetadataValue.md(charts)})
        )
    page.goto(f"{ui.url}/assets/usage/report?view=events")
    row = page.locator("tr").filter(has_text="charts")
    row.get_by_text("Show Markdown").click()
    images = page.get_by_role("dialog").filter(has_text="Spend by day").locator("img")
    expect(images).to_have_count(2)
    widths = images.evaluate_all("all => Promise.all(all.map(one => one.decode().then(() => one.naturalWidth)))")
    page.screenshot(path=tmp_path / "charts.png")
    assert min(widths) > 300
