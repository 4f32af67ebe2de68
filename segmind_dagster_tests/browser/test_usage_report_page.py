"""The usage report as a manager opens it: one file, no network, on a desk and on a phone."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from segmind_dagster.reports.usage_report import write_usage_report
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    money = {"attempts": 5, "cost_usd": Decimal("2.5"), "estimated_cost_usd": Decimal("0.5")}
    counts = {"generations": 5, "succeeded": 3, "failed": 1, "unknown": 1, "unfinished": 0, "reused": 1}
    rest = {
        "cost_per_output_usd": Decimal(1), "saved_usd": Decimal("0.1"), "latency_p50_ms": 900.0,
        "latency_p95_ms": 2900.0,
    }  # fmt: skip
    summaries = {
        "usage_by_day": [
            {"day": date(2026, 3, 1) + timedelta(days=n), "succeeded": 3, "failed": 2, **money} for n in range(20)
        ],
        "usage_by_model": [{"model": f"model-{n}", **counts, **money, **rest} for n in range(4)],
        "usage_by_prompt_set": [{"prompt_set": f"set_{n}", **counts, **money, **rest} for n in range(30)],
        "usage_by_failure": [
            {"failure_kind": "job_failed", "model": "model-1", "still_failed": 1, "example": "<b>no</b>", **money}
        ],
    }
    monkeypatch.setattr("segmind_dagster.reports.usage_report.read_table", lambda _, name: summaries[name])
    return write_usage_report(load_settings(environ={}, project_dir=tmp_path, api_url="http://127.0.0.1:8473")).uri


@pytest.mark.parametrize("size", [{"width": 1300, "height": 900}, {"width": 390, "height": 844}], ids=["desk", "phone"])
def test_charts_and_numbers_are_there_without_a_network(
    page: Page, uri: str, size: dict[str, int], tmp_path: Path
) -> None:
    errors: list[str] = []
    page.on("request", lambda asked: None if asked.url.startswith("file:") else errors.append(asked.url))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.goto(f"file://{uri}")
    expect(page.locator(".chart svg")).to_have_count(9)
    usage, account = page.locator(".totals").all()
    expect(usage).to_contain_text("$50.00")
    # nothing was ever read here
    assert set(account.locator("dd").all_inner_texts()) == {"not known", "never"}
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    # a bar tells its figures to whoever points at it, and to whoever listens
    bar = page.locator("section", has_text="Spend by model").locator("[aria-roledescription='bar']").first
    assert "model-" in (bar.locator("title").text_content() or "")
    section = page.locator("section", has_text="Why submissions failed")
    section.locator("summary").click()
    expect(section.get_by_role("cell", name="<b>no</b>")).to_be_visible()
    page.screenshot(path=tmp_path / "report.png", full_page=True)
    assert errors == []
