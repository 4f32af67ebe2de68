"""What the account's tables say at a glance, as asset metadata: counts, money, and how long it lasts.

A figure that is not known is left out of the sums and said to be so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from segmind_dagster.reports.queries import ask, has_tables
from segmind_dagster.reports.reconciliation import runways
from segmind_dagster.reports.spend_sql import BALANCES
from segmind_dagster.reports.summaries import fitted
from segmind_dagster.source import tables
from segmind_dagster.source.pipeline import warehouse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segmind_dagster.settings import Settings

MODELS_ON_THE_PAGE: Final = "models on the page"

TEXTS: Final[Mapping[str, str]] = {
    "credits": BALANCES,
    "models": """
        SELECT COUNT(*) AS listed, COUNT(m.mean_cost_usd) AS priced,
            SUM(CASE WHEN m.is_deprecated THEN 1 ELSE 0 END) AS deprecated
        FROM models AS m WHERE m.api_origin = :api_origin
    """,
    "model_changes": """
        SELECT c.seen_at, c.slug, c.field, c.old_value, c.new_value, c.change_percent
        FROM model_changes AS c WHERE c.api_origin = :api_origin
        ORDER BY c.seen_at DESC, c.slug, c.field LIMIT 50
    """,
    "models_page_rows": """
        WITH latest AS (
            SELECT MAX(p.fetched_at) AS fetched_at FROM models_page AS p WHERE p.api_origin = :api_origin
        )
        SELECT COUNT(*) AS listed, COUNT(r.price_usd) AS priced
        FROM models_page_rows AS r JOIN latest AS l ON l.fetched_at = r.fetched_at
        WHERE r.api_origin = :api_origin
    """,
    "request_history": """
        SELECT COUNT(*) AS requests, SUM(h.cost_usd) AS cost_usd, MAX(h.created_at) AS created_at,
            SUM(CASE WHEN h.cost_usd IS NULL THEN 1 ELSE 0 END) AS unknown
        FROM request_history AS h WHERE h.api_origin = :api_origin
    """,
}


def account_figures(settings: Settings, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Figures of each of these tables, by name; a list of rows where a table says more than a figure."""
    with warehouse(settings, purpose="reading the account's tables") as pipeline:
        return {
            name: _FIGURES[name](ask(pipeline, TEXTS[name], api_origin=settings.api_origin))
            for name in names
            if name in TEXTS and has_tables(pipeline, name, *_ALSO.get(name, ()))
        }


_ALSO: Final = {"models_page_rows": ("models_page",)}


def _credits(rows: list[dict[str, Any]]) -> dict[str, Any]:
    balances = [fitted(row, {name: tables.CREDITS_COLUMNS[name] for name in row}) for row in rows]
    if not balances:
        return {}
    latest = runways(balances)[-1]
    days, per_day = latest["runway_days"], latest["spent_per_day_usd"]
    return {
        "balance (USD)": latest["balance_usd"],
        "readings": len(balances),
        "spent a day (USD)": "not known" if per_day is None else per_day,
        "runway (days)": "not known" if days is None else round(days, 1),
    }


def _models(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return {
        "models": int(row["listed"]),
        "models with a price": int(row["priced"]),
        "deprecated models": int(row["deprecated"] or 0),
    }


def _changes(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"latest changes": rows}


def _page(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return {MODELS_ON_THE_PAGE: int(row["listed"]), "of these with a price": int(row["priced"])}


def _history(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    counted = fitted(row, {name: _HISTORY.get(name, {"data_type": "bigint"}) for name in row})
    nothing = "not known" if counted["requests"] else 0
    return {
        "requests": counted["requests"],
        "charged (USD)": counted["cost_usd"] if counted["cost_usd"] is not None else nothing,
        **({"of these with a cost not known": counted["unknown"]} if counted["unknown"] else {}),
        "newest request": f"{counted['created_at']:%Y-%m-%d %H:%M} UTC" if counted["created_at"] else "none",
    }


_HISTORY: Final = tables.HISTORY_COLUMNS
_FIGURES: Final = {
    "credits": _credits,
    "models": _models,
    "model_changes": _changes,
    "models_page_rows": _page,
    "request_history": _history,
}
