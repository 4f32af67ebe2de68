"""The usage report: one page with charts that a manager can read, from the usage summaries in the warehouse.

Which figures are shown, and in which words, is decided here; how charts are drawn, in `charts`.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from segmind_dagster.reports.account_totals import account_totals
from segmind_dagster.reports.publishing import Shelf
from segmind_dagster.reports.rendering import render
from segmind_dagster.reports.usage import read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from segmind_dagster.reports.charts import Drawing
    from segmind_dagster.settings import Settings

    Rows = Sequence[Mapping[str, Any]]

SUMMARIES: Final = ("usage_by_day", "usage_by_model", "usage_by_prompt_set", "usage_by_failure")
_FILE = "usage_report.html"
# a chart of more bars is no longer read; the table below it has them all
MOST_BARS: Final = 12
_LONGEST_IN_DAYS, _LONGEST_IN_WEEKS = 62, 500
_MOST_TABLE_ROWS = 400
# as d3 writes numbers: as many digits as tell the ticks of an axis apart, of hundredths of cents too
_MONEY, _WHOLE = "$,.4~r", ",d"
# beyond this Dagster's UI becomes slow
_MOST_SHEET_BYTES = 90_000
_WORDS = {
    "day": "day (UTC)", "model": "model", "prompt_set": "prompt set", "failure_kind": "kind",
    "attempts": "submissions", "succeeded": "stored", "failed": "failed", "unknown": "unknown outcome",
    "unfinished": "not finished", "generations": "asked for", "cost_usd": "charged (USD)",
    "estimated_cost_usd": "estimated or reserved (USD)", "cost_per_output_usd": "per output (USD)",
    "reused": "reused", "saved_usd": "saved (USD)", "latency_p50_ms": "half within (s)",
    "latency_p95_ms": "95 % within (s)", "latency_p99_ms": "99 % within (s)", "still_failed": "failed still",
    "example": "for example",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One chart of the report with the numbers behind it.

    Args:
        title: what it shows.
        says: how to read it.
        rows: of the summary it is drawn from.
        columns: of these rows that its table shows; those that a summary does not have are left out.
        draw: makes the chart.
        instead: what is said when there is nothing to draw.
    """

    title: str
    says: str
    rows: Rows
    columns: tuple[str, ...]
    draw: Callable[[], Drawing]
    instead: str

    @property
    def is_cut(self) -> bool:
        """Whether there are more names than bars."""
        return self.columns[0] != "day" and len(self.rows) > MOST_BARS

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells."""
        names = [name for name in self.columns if self.rows and name in self.rows[0]]
        cells = [[_cell(name, row[name]) for name in names] for row in self.rows[:_MOST_TABLE_ROWS]]
        return [_WORDS[name] for name in names], cells


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """A report in its place.

    Args:
        uri: path of the page.
        figures: its charts.
        totals: name and amount of the figures on top.
        account: the same of the account.
        is_empty: whether the summaries hold nothing.
        page_bytes: size of the page.
    """

    uri: str
    figures: tuple[Figure, ...]
    totals: Mapping[str, str]
    account: Mapping[str, str]
    is_empty: bool
    page_bytes: int


def write_usage_report(settings: Settings, *, output: Path | None = None) -> UsageReport:
    """Write the report, over an earlier one.

    It lies in the data folder, never beside outputs: who may see the pictures need not see what they cost.

    Args:
        settings: which warehouse and data folder.
        output: the page's file; `usage_report.html` in the data folder when omitted.

    Raises:
        SegmindDagsterError: the warehouse cannot be read, or the page cannot be written.
    """
    summaries = {name: read_table(settings, name) for name in SUMMARIES}
    is_empty = not any(summaries.values())
    figures = usage_figures(summaries)
    totals = {} if is_empty else usage_totals(summaries)
    account = {} if is_empty else account_totals(settings)
    page = render(
        "usage_report",
        totals=totals,
        account=account,
        figures=[
            {"title": each.title, "says": each.says, "instead": each.instead, "svg": _svg(each), "table": each.table,
             "omitted": max(0, len(each.rows) - _MOST_TABLE_ROWS), "bars": MOST_BARS if each.is_cut else None}
            for each in figures
        ],
        is_empty=is_empty,
        api_origin=settings.api_origin,
        is_sandbox=settings.is_sandbox,
        made_at=datetime.now(UTC),
    )  # fmt: skip
    file = settings.data_dir / _FILE if output is None else output.absolute()
    return UsageReport(
        uri=Shelf(str(file.parent)).write(file.name, page),
        figures=figures,
        totals=totals,
        account=account,
        is_empty=is_empty,
        page_bytes=len(page),
    )


def chart_sheet(figures: Sequence[Figure]) -> str | None:
    """The first charts in Markdown, as small pictures in data URIs, which Dagster's UI shows; None without any.

    Args:
        figures: of the report, the most telling first.
    """
    parts: list[str] = []
    size = 0
    for figure in figures:
        if not figure.rows:
            continue
        from segmind_dagster.reports.charts import to_png

        picture = base64.b64encode(to_png(figure.draw())).decode()
        part = f"**{figure.title}**\n\n![{figure.title}](data:image/png;base64,{picture})"
        size += len(part)
        if size > _MOST_SHEET_BYTES:
            break
        parts.append(part)
    return "\n\n".join(parts) or None


def usage_totals(summaries: Mapping[str, Rows]) -> dict[str, str]:
    """The figures on top, each with its unit; what is not known is said to be so."""
    days, models, failures = (summaries[name] for name in ("usage_by_day", "usage_by_model", "usage_by_failure"))
    charged, estimated = _sum(days, "cost_usd"), _sum(days, "estimated_cost_usd")
    stored, asked = _sum(models, "succeeded"), _sum(models, "generations")
    saved = _sum(models, "saved_usd")
    outputs = _sum(days, "succeeded")
    total_usd = None if charged is None or estimated is None else charged + estimated
    return {
        "charged": _dollars(charged),
        **({"estimated or reserved besides": _dollars(estimated)} if estimated else {}),
        "stored of what is asked for": f"{_count(stored)} of {_count(asked)}",
        "per stored output": "unknown" if total_usd is None or not outputs else f"${total_usd / outputs:,.4f}",
        "saved by reuse": _dollars(saved),
        "generations failed now": _count(_sum(models, "failed")),
        "submissions that failed": _count(_sum(failures, "attempts")),
    }


def usage_figures(summaries: Mapping[str, Rows]) -> tuple[Figure, ...]:
    """The charts, in the order in which a reader wants them."""
    days, models, sets, failures = (summaries[name] for name in SUMMARIES)
    period = _period(days)
    kinds = _summed(failures, "failure_kind")
    money = ("cost_usd", "estimated_cost_usd")
    percentiles = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
    return (
        Figure(
            title=f"Spend by {period}",
            says=f"What each {period}'s submissions cost. Estimated: what Segmind has not reported or not settled yet.",
            rows=days,
            columns=("day", *money, "attempts"),
            draw=partial(_over_time, days, period, "MONEY", axis="US dollars", form=_MONEY),
            instead="Nothing has been spent yet.",
        ),
        Figure(
            title="Spend by model",
            says="All submissions to a model, whichever prompt set paid.",
            rows=models,
            columns=("model", *money, "attempts"),
            draw=partial(_by_name, models, "model", "MONEY", axis="US dollars", form=_MONEY),
            instead="Nothing has been spent yet.",
        ),
        Figure(
            title="Spend by prompt set",
            says="What each set has paid. What it reused from another set stands with that one.",
            rows=sets,
            columns=("prompt_set", *money, "attempts"),
            draw=partial(_by_name, sets, "prompt_set", "MONEY", axis="US dollars", form=_MONEY),
            instead="Nothing has been spent yet.",
        ),
        Figure(
            title="Stored and missing",
            says="What the prompt sets ask of each model now, and how far that has come.",
            rows=models,
            columns=("model", "generations", "succeeded", "failed", "unknown", "unfinished"),
            draw=partial(_by_name, models, "model", "OUTCOMES", axis="generations", form=_WHOLE),
            instead="Nothing has been asked for yet.",
        ),
        Figure(
            title=f"Submissions by {period}",
            says="How many brought an output and how many failed; most failures are free and tried again.",
            rows=days,
            columns=("day", "attempts", "succeeded", "failed"),
            draw=partial(_over_time, days, period, "ATTEMPTS", axis="submissions", form=_WHOLE),
            instead="Nothing has been submitted yet.",
        ),
        Figure(
            title="Why submissions failed",
            says="Failed submissions by kind. The table says how many generations still stand failed for it.",
            rows=kinds,
            columns=("failure_kind", "attempts", "still_failed", *money, "example"),
            draw=partial(_by_name, kinds, "failure_kind", "ATTEMPTS_OF_KIND", axis="submissions", form=_WHOLE),
            instead="No submission has failed.",
        ),
        Figure(
            title="Cost of an output",
            says="All a model has cost, divided by the outputs stored. A failure that was charged makes it rise.",
            rows=[row for row in models if row.get("cost_per_output_usd") is not None],
            columns=("model", "cost_per_output_usd", "succeeded"),
            draw=partial(_by_name, models, "model", "EACH", axis="US dollars", form=_MONEY),
            instead="No output is stored yet.",
        ),
        Figure(
            title="How long an output takes",
            says="From the submission to the stored output: half of all, and nearly all, are there within this time.",
            rows=[row for row in models if row.get("latency_p50_ms") is not None],
            columns=("model", *percentiles),
            draw=partial(_spread, [row for row in models if row.get("latency_p50_ms") is not None]),
            instead="No output is stored yet.",
        ),
        Figure(
            title="Saved by reuse",
            says="What sets did not pay because another one had bought the same generation before.",
            rows=[row for row in sets if row.get("saved_usd")],
            columns=("prompt_set", "reused", "saved_usd"),
            draw=partial(_by_name, sets, "prompt_set", "SAVED", axis="US dollars", form=_MONEY),
            instead="Nothing has been reused yet.",
        ),
    )


def _period(days: Rows) -> str:
    """What a bar of a chart over time stands for, so that there are never too many."""
    known = [row["day"] for row in days]
    span = (max(known) - min(known)).days if known else 0
    return "day" if span <= _LONGEST_IN_DAYS else "week" if span <= _LONGEST_IN_WEEKS else "month"


def _over_time(rows: Rows, period: str, parts: str, *, axis: str, form: str) -> Drawing:
    from segmind_dagster.reports import charts

    return charts.over_time(rows, period, getattr(charts, parts), axis=axis, form=form)


def _by_name(rows: Rows, column: str, parts: str, *, axis: str, form: str) -> Drawing:
    from segmind_dagster.reports import charts

    return charts.by_name(rows, column, getattr(charts, parts), axis=axis, form=form, most_bars=MOST_BARS)


def _spread(rows: Rows) -> Drawing:
    from segmind_dagster.reports import charts

    known = [part for part in charts.LATENCIES if rows and part.column in rows[0]]
    return charts.spread(rows, "model", known, most_bars=MOST_BARS)


def _svg(figure: Figure) -> str | None:
    if not figure.rows:
        return None
    from segmind_dagster.reports.charts import to_svg

    return to_svg(figure.draw(), name=figure.title)


def _summed(rows: Rows, column: str) -> list[dict[str, Any]]:
    """Rows of one name added up; of texts the first one is kept."""
    added: dict[Any, dict[str, Any]] = {}
    for row in rows:
        kept = added.setdefault(row[column], {column: row[column]})
        for name, value in row.items():
            if isinstance(value, (int, Decimal)) and isinstance(kept.get(name, 0), (int, Decimal)):
                kept[name] = kept.get(name, 0) + value
            else:
                kept.setdefault(name, value)
    return sorted(added.values(), key=lambda row: row["attempts"], reverse=True)


def _sum(rows: Rows, column: str) -> Decimal | None:
    """A sum; None when a part of it is not known."""
    values = [row[column] for row in rows]
    return None if None in values else sum(map(Decimal, values), Decimal(0))


def _dollars(amount: Decimal | None) -> str:
    if amount is None:
        return "unknown"
    return f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:,.4f}"


def _count(number: Decimal | None) -> str:
    return "unknown" if number is None else f"{number:,.0f}"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "unknown" if name.endswith("_usd") else "-"
    if name.endswith("_ms"):
        return f"{float(value) / 1000:,.2f}"
    if name.endswith("_usd"):
        return f"{Decimal(value):,.6f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
