"""Turns plans and reports into what the UI shows. Values only; the figures are made elsewhere."""

from __future__ import annotations

from decimal import Decimal
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import dagster as dg

from segmind_dagster.planning import Total

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segmind_dagster.planning import Plan
    from segmind_dagster.prompts import PromptSet
    from segmind_dagster.reports.gallery import Gallery
    from segmind_dagster.reports.usage_report import UsageReport
    from segmind_dagster.runner import ModelReport, RunReport
    from segmind_dagster.settings import Settings


def plan_metadata(prompt_set: PromptSet, plans: Sequence[Plan], settings: Settings) -> dict[str, Any]:
    """What a prompt set asks for and what that will cost."""
    rows = [
        dg.TableRecord(
            {
                "model": plan.resource,
                "generations": len(plan.generations),
                "to buy": plan.counts["submit"],
                "already owned": plan.counts["reuse"],
                "in progress": plan.counts["collect"] + plan.counts["look_up"] + plan.counts["wait"],
                "expected USD": _usd(plan.estimate.expected_usd) if Total.of([plan]).is_known else "unknown",
                "at most USD": _usd(plan.estimate.high_usd) if Total.of([plan]).is_known else "unknown",
                "refused": plan.refusal or "",
            }
        )
        for plan in plans
    ]
    total = Total.of(plans)
    durations = [plan.estimate.duration_s for plan in plans]
    known = [duration for duration in durations if duration is not None]
    return {
        "description": prompt_set.description or "",
        "generations": sum(len(plan.generations) for plan in plans),
        "generations to buy": sum(plan.counts["submit"] for plan in plans),
        "expected cost (USD)": float(total.expected_usd) if total.is_known else "not known",
        "cost range (USD)": f"{_usd(total.low_usd)} to {_usd(total.high_usd)}" if total.is_known else "not known",
        "generations of unknown price": total.capped + total.unpriced,
        "cost": "\n".join(total.sentences()),
        "time at the current rate (s)": round(sum(known)) if len(known) == len(durations) else "not known",
        "budget (USD)": str(prompt_set.budget_usd) if prompt_set.budget_usd else "none of its own",
        "file": dg.MetadataValue.path(str(prompt_set.path)),
        "API": settings.api_origin,
        "plan": dg.MetadataValue.table(records=rows) if rows else "no models",
    }


def model_metadata(model: ModelReport, settings: Settings) -> dict[str, Any]:
    """What a run did for one prompt set and one model, and how it looks."""
    endings = model.endings
    metadata: dict[str, Any] = {}
    if (sheet := _sheet(model)) is not None:
        metadata["contact sheet"] = dg.MetadataValue.md(sheet)
    metadata |= {
        "generations": sum(endings.values()),
        **{f"generations {name.replace('_', ' ')}": count for name, count in sorted(endings.items())},
        "cost of this run (USD)": float(model.cost_usd),
        "of it estimated (USD)": float(model.estimated_usd),
        "saved by reuse (USD)": "not known" if model.reused_unpriced else float(model.saved_usd),
        "API": settings.api_origin,
    }
    if model.latencies_ms:
        # twentieths between the values, as the usage summaries have them
        cuts = quantiles(model.latencies_ms, n=20, method="inclusive") if len(model.latencies_ms) > 1 else []
        metadata["latency p50 (ms)"] = round(cuts[9]) if cuts else model.latencies_ms[0]
        metadata["latency p95 (ms)"] = round(cuts[18]) if cuts else model.latencies_ms[0]
    if model.reason:
        metadata["empty because"] = model.reason
    if model.failures:
        counted = "\n".join(f"- {kind}: {count}" for kind, count in model.failures.most_common())
        examples = "\n".join(f"- {example}" for example in model.examples)
        metadata["failures"] = dg.MetadataValue.md(f"{counted}\n\nFor example:\n\n{examples}")
    if model.folder:
        metadata["outputs"] = dg.MetadataValue.path(model.folder)
    return metadata


def gallery_metadata(gallery: Gallery) -> dict[str, Any]:
    """Where a gallery is, what it holds, and a first look at it."""
    from segmind_dagster.reports.contact_sheet import Picture, contact_sheet

    metadata: dict[str, Any] = {"page": dg.MetadataValue.path(gallery.uri)}
    preview = contact_sheet([Picture(uri, caption) for uri, caption in gallery.pictures])
    if preview is not None:
        metadata["preview"] = dg.MetadataValue.md(preview)
    if gallery.sheet_uri is not None:
        metadata["contact sheet"] = dg.MetadataValue.path(gallery.sheet_uri)
    return metadata | {
        "generations": gallery.generations,
        "pictures": len(gallery.pictures),
        **{f"generations {status}": count for status, count in gallery.by_status.items()},
        "paid by this set": gallery.charges.in_words(),
        "page size (bytes)": gallery.page_bytes,
    }


def report_metadata(report: UsageReport) -> dict[str, Any]:
    """Where the usage report is, its figures, and as many of its charts as the UI shows quickly."""
    from segmind_dagster.reports.usage_report import chart_sheet

    charts = chart_sheet(report.figures)
    return {
        "page": dg.MetadataValue.path(report.uri),
        **({"charts": dg.MetadataValue.md(charts)} if charts else {}),
        **report.totals,
        **report.account,
        "page size (bytes)": report.page_bytes,
    }


def table_metadata(loaded: Mapping[str, Any], schema: dg.TableSchema) -> dict[str, Any]:
    """What dagster-dlt says about a load, without its list of jobs, and with columns that carry descriptions."""
    kept = {
        name: value
        for name, value in loaded.items()
        if name not in {"jobs", "dagster/table_name"} and not isinstance(value, dg.TableSchema)
    }
    return {**kept, "dagster/column_schema": schema}


def table_preview(rows: Sequence[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    """A summary table as Markdown."""
    if not rows:
        return dg.MetadataValue.md("No rows yet.")
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows[:50]]
    return dg.MetadataValue.md("\n".join(lines))


def money_metadata(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Totals of a summary's money, for the UI to plot over time."""
    named = {"cost_usd": "charged (USD)", "estimated_cost_usd": "estimated (USD)", "saved_usd": "saved by reuse (USD)"}
    sums = {
        title: [row[column] for row in rows] for column, title in named.items() if rows and column in rows[0]
    }  # fmt: skip
    return {
        title: "not known" if None in amounts else float(sum(amounts, Decimal(0))) for title, amounts in sums.items()
    }


def figures_metadata(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures as they are, money as numbers, rows as a table."""
    return {
        name: table_preview(value) if isinstance(value, list) else float(value) if isinstance(value, Decimal) else value
        for name, value in figures.items()
    }


def log_report(log: dg.DagsterLogManager, report: RunReport) -> None:
    """One line a prompt set and model, and the failures with what to do about them."""
    for model in report.models:
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(model.endings.items()))
        log.info(
            f"{model.prompt_set} / {model.resource}: {model.reason or counts or 'nothing to do'}; ${model.cost_usd:.4f}"
        )
        for example in model.examples:
            log.warning(f"{model.prompt_set} / {model.resource}: {example}")
    for warning in report.warnings:
        log.warning(warning)


def _sheet(model: ModelReport) -> str | None:
    from segmind_dagster.reports.contact_sheet import Picture, contact_sheet

    return contact_sheet([Picture(uri, caption) for uri, caption in model.pictures])


def _cell(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value:.4f}"
    if isinstance(value, float):
        return f"{value:.1f}"
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")[:120]


def _usd(amount: Decimal) -> str:
    return f"{amount:.4f}"
