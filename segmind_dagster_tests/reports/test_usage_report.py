"""The usage report says what the summaries say, escapes what they hold, and never draws what is not known."""

from __future__ import annotations

import base64
import io
import re
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segmind_dagster.reports import charts
from segmind_dagster.reports.usage_report import (
    MOST_BARS,
    chart_sheet,
    usage_figures,
    usage_totals,
    write_usage_report,
)
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from segmind_dagster.reports.usage_report import Figure
    from segmind_dagster.settings import Settings

MARCH = date(2026, 3, 1)


def day(number: int = 0, **columns: Any) -> dict[str, Any]:
    usual = {"attempts": 4, "succeeded": 3, "failed": 1, "cost_usd": Decimal("1.5"), "estimated_cost_usd": Decimal(0)}
    return {"day": MARCH + timedelta(days=number), **usual, **columns}


def group(dimension: str, name: str = "fruit", **columns: Any) -> dict[str, Any]:
    usual = {
        "generations": 4, "succeeded": 3, "failed": 1, "unknown": 0, "unfinished": 0, "reused": 0, "attempts": 4,
        "cost_usd": Decimal("1.5"), "estimated_cost_usd": Decimal(0), "cost_per_output_usd": Decimal("0.5"),
        "saved_usd": Decimal(0), "latency_p50_ms": 1000.0, "latency_p95_ms": 5000.0,
    }  # fmt: skip
    return {dimension: name, **usual, **columns}


def failure(kind: str = "job_failed", model: str = "m", **columns: Any) -> dict[str, Any]:
    usual = {"attempts": 1, "still_failed": 1, "cost_usd": Decimal(0), "estimated_cost_usd": Decimal(0), "example": "x"}
    return {"failure_kind": kind, "model": model, **usual, **columns}


def summaries(**replaced: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    usual = {
        "usage_by_day": [day()],
        "usage_by_model": [group("model", "fast-flux-schnell")],
        "usage_by_prompt_set": [group("prompt_set")],
        "usage_by_failure": [failure()],
    }
    return {**usual, **{f"usage_by_{name}": rows for name, rows in replaced.items()}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(environ={}, project_dir=tmp_path, api_url="http://127.0.0.1:8473")


def drawn_by(figure: Figure) -> list[dict[str, Any]]:
    """The values that a chart is drawn from."""
    spec = figure.draw().to_dict()
    values: list[dict[str, Any]] = spec["datasets"][spec["data"]["name"]]
    return values


def written(settings: Settings, monkeypatch: pytest.MonkeyPatch, rows: dict[str, list[dict[str, Any]]]) -> str:
    monkeypatch.setattr("segmind_dagster.reports.usage_report.read_table", lambda _, name: rows[name])
    write_usage_report(settings)
    return (settings.data_dir / "usage_report.html").read_text(encoding="utf-8")


def test_with_nothing_loaded_yet_the_page_says_so(settings: Settings) -> None:
    report = write_usage_report(settings)
    assert report.is_empty
    assert report.totals == {}
    assert chart_sheet(report.figures) is None
    page = (settings.data_dir / "usage_report.html").read_text(encoding="utf-8")
    assert "hold nothing yet" in page
    assert "$" not in page


def test_every_chart_is_in_the_page_with_its_numbers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    page = written(
        settings, monkeypatch, summaries(prompt_set=[group("prompt_set", saved_usd=Decimal("0.25"), reused=2)])
    )
    assert page.count("<svg") == 9
    for title in ("Spend by day", "Spend by model", "Spend by prompt set", "Why submissions failed", "Saved by reuse"):
        assert f"<h2>{title}</h2>" in page
    assert "1.500000" in page
    assert not re.findall(r'(?:src|href)="http', page)
    assert " style=" not in page
    assert len(page) < 200_000


def test_a_page_without_failures_and_reuse_says_so_in_place_of_charts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = written(settings, monkeypatch, summaries(failure=[]))
    assert "No submission has failed." in page
    assert "Nothing has been reused yet." in page


def test_hostile_names_and_messages_stay_texts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "</svg></script><script>alert(1)</script>\"'&"
    rows = summaries(
        model=[group("model", hostile)],
        prompt_set=[group("prompt_set", hostile)],
        failure=[failure(hostile, example=hostile)],
    )
    page = written(settings, monkeypatch, rows)
    assert page.count("<script") == 1
    assert "alert(1)&lt;/script&gt;" in page


def test_sums_are_those_of_the_summaries() -> None:
    rows = summaries(
        day=[day(), day(1, estimated_cost_usd=Decimal("0.25"))], model=[group("model", "a"), group("model", "b")]
    )
    assert usage_totals(rows) == {
        "charged": "$3.00",
        "estimated or reserved besides": "$0.2500",
        "stored of what is asked for": "6 of 8",
        "per stored output": f"${Decimal('3.25') / 6:.4f}",
        "saved by reuse": "$0.00",
        "generations failed now": "2",
        "submissions that failed": "1",
    }


@pytest.mark.parametrize("column", ["cost_usd", "estimated_cost_usd"])
def test_a_sum_with_an_unknown_part_is_unknown(column: str) -> None:
    totals = usage_totals(summaries(day=[day(), day(1, **{column: None})]))
    assert totals["per stored output"] == "unknown"
    assert totals["charged"] == ("unknown" if column == "cost_usd" else "$3.00")


def test_failures_alone_have_a_cost_but_no_cost_per_output() -> None:
    totals = usage_totals(summaries(day=[day(succeeded=0, failed=4)], model=[group("model", succeeded=0, failed=4)]))
    assert totals["per stored output"] == "unknown"
    assert totals["stored of what is asked for"] == "0 of 4"


def test_unknown_values_are_not_drawn_as_zero() -> None:
    figures = {
        figure.title: figure
        for figure in usage_figures(
            summaries(model=[group("model", cost_usd=None, cost_per_output_usd=None, latency_p50_ms=None)])
        )
    }
    assert figures["Spend by model"].table[1][0][1] == "unknown"
    drawn = drawn_by(figures["Spend by model"])
    assert {value["part"] for value in drawn} == {"estimated or reserved"}
    assert not figures["Cost of an output"].rows
    assert not figures["How long an output takes"].rows


@pytest.mark.parametrize(
    ("last", "title", "unit"),
    [
        (61, "Spend by day", "utcyearmonthdate"),
        (62 * 2, "Spend by week", "utcyearweek"),
        (900, "Spend by month", "utcyearmonth"),
    ],
)
def test_long_times_are_drawn_by_week_and_month(last: int, title: str, unit: str) -> None:
    figure = usage_figures(summaries(day=[day(), day(last)]))[0]
    assert figure.title == title
    assert figure.draw().to_dict()["encoding"]["x"]["timeUnit"] == unit


def test_days_on_which_nothing_happened_are_between_the_others() -> None:
    figure = usage_figures(summaries(day=[day(), day(3)]))[0]
    drawn = drawn_by(figure)
    assert {value["name"] for value in drawn} == {f"2026-03-0{number}" for number in (1, 2, 3, 4)}
    assert {value["amount"] for value in drawn if value["name"] in {"2026-03-02", "2026-03-03"}} == {0}


@pytest.mark.parametrize("scale", [Decimal("0.000004"), Decimal("0.0123"), Decimal(7), Decimal("1234567.89")])
def test_no_two_ticks_of_an_axis_read_the_same(scale: Decimal) -> None:
    for figure in usage_figures(
        summaries(model=[group("model", cost_usd=scale, succeeded=1, failed=0)], day=[day(cost_usd=scale)])
    ):
        if not figure.rows or figure.title == "How long an output takes":
            continue
        svg = charts.to_svg(figure.draw(), name=figure.title)
        texts = re.findall(r"<text[^>]*>([$\d][^<]*)</text>", svg)
        assert len(texts) == len(set(texts)), (figure.title, texts)


def test_the_largest_of_many_names_are_drawn_and_all_are_in_the_table(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = summaries(prompt_set=[group("prompt_set", f"set{n}", cost_usd=Decimal(n)) for n in range(30)])
    figure = next(figure for figure in usage_figures(rows) if figure.title == "Spend by prompt set")
    drawn = {value["name"] for value in drawn_by(figure)}
    assert drawn == {f"set{n}" for n in range(30 - MOST_BARS, 30)}
    assert len(figure.table[1]) == 30
    assert "The 12 largest of 30." in written(settings, monkeypatch, rows)


def test_failures_of_one_kind_are_added_up_over_models() -> None:
    rows = summaries(failure=[failure(model="a", attempts=2), failure(model="b", attempts=5), failure("expired")])
    figure = next(figure for figure in usage_figures(rows) if figure.title == "Why submissions failed")
    assert [(row["failure_kind"], row["attempts"], row["still_failed"]) for row in figure.rows] == [
        ("job_failed", 7, 2),
        ("expired", 1, 1),
    ]


def test_a_further_percentile_is_drawn_once_the_summaries_have_it() -> None:
    rows = summaries(model=[group("model", latency_p99_ms=9000.0)])
    figure = next(figure for figure in usage_figures(rows) if figure.title == "How long an output takes")
    assert figure.table[0] == ["model", "half within (s)", "95 % within (s)", "99 % within (s)"]
    assert figure.table[1] == [["fruit", "1.00", "5.00", "9.00"]]


def test_the_charts_for_dagster_are_small_pictures(settings: Settings) -> None:
    sheet = chart_sheet(usage_figures(summaries(day=[day(number) for number in range(40)]))) or ""
    pictures = re.findall(r"!\[[^\]]+\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", sheet)
    assert len(pictures) >= 4
    assert len(sheet) < 100_000
    for data in pictures:
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.format == "PNG"
            assert picture.width > 300


def test_a_chart_takes_the_colour_of_the_page_it_stands_in() -> None:
    svg = charts.to_svg(usage_figures(summaries())[1].draw(), name="Spend by model")
    assert 'fill="currentColor"' in svg
    assert 'fill="white"' not in svg
    assert "<script" not in svg


def test_the_report_is_written_to_the_given_folder(settings: Settings, tmp_path: Path) -> None:
    report = write_usage_report(settings, output=tmp_path / "for the manager" / "march.html")
    assert report.uri == str(tmp_path / "for the manager/march.html")
    assert not (settings.data_dir / "usage_report.html").exists()


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=8))
def test_what_was_charged_is_the_sum_over_days_to_the_cent(drawn: list[tuple[int, int]]) -> None:
    days = [
        day(number, cost_usd=Decimal(nano) / 10**6, estimated_cost_usd=Decimal(other) / 10**6)
        for number, (nano, other) in enumerate(drawn)
    ]
    charged = sum(row["cost_usd"] for row in days)
    shown = usage_totals(summaries(day=days))["charged"].replace("$", "").replace(",", "")
    assert abs(Decimal(shown) - charged) <= Decimal("0.005")
