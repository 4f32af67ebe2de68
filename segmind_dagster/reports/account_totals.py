"""What the usage report says of the account: balance and how long it lasts, and whether the books agree.

Figures are taken from the account's tables and the comparisons as they were made last; none is worked out anew.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from segmind_dagster.reports.account import account_figures
from segmind_dagster.reports.queries import has_tables
from segmind_dagster.reports.summaries import read_rows
from segmind_dagster.source import tables
from segmind_dagster.source.pipeline import warehouse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segmind_dagster.settings import Settings


class _Comparison(NamedTuple):
    """A table whose rows should not be there, and where their money stands."""

    title: str
    column: str


COMPARED: Final[Mapping[str, _Comparison]] = {
    "spend_unexplained": _Comparison("charged by Segmind, not in our ledger", "cost_usd"),
    "spend_paid_twice": _Comparison("paid twice by accident", "excess_usd"),
    "spend_not_held": _Comparison("paid for and not stored", "cost_usd"),
}
_NOT_KNOWN: Final = "not known"


def account_totals(settings: Settings) -> dict[str, str]:
    """Name and amount of each figure; what was never read or compared is said to be not known.

    Args:
        settings: which warehouse, API and account.

    Raises:
        SegmindDagsterError: the warehouse cannot be read.
    """
    figures = account_figures(settings, ("credits", "request_history"))
    with warehouse(settings, purpose="reading the comparisons") as pipeline:
        found = {
            name: read_rows(pipeline, name, tables.SPEND_COLUMNS[name]) if has_tables(pipeline, name) else None
            for name in COMPARED
        }
    return in_words(figures, found)


def in_words(
    figures: Mapping[str, Mapping[str, Any]], compared: Mapping[str, Sequence[Mapping[str, Any]] | None]
) -> dict[str, str]:
    """The same from figures that were read already. Pure.

    Args:
        figures: of `credits` and `request_history`; see `account.account_figures`.
        compared: rows of each comparison; None for one that was never made.
    """
    balance, history = figures.get("credits") or {}, figures.get("request_history") or {}
    days: Any = balance.get("runway (days)", _NOT_KNOWN)
    return {
        "balance": _dollars(balance.get("balance (USD)")),
        "lasts at the current rate": days if isinstance(days, str) else f"{days:,} days",
        "charged, by Segmind's history": _dollars(history.get("charged (USD)")),
        **{each.title: _found(compared.get(name), each.column) for name, each in COMPARED.items()},
    }


def _found(rows: Sequence[Mapping[str, Any]] | None, column: str) -> str:
    if rows is None:
        return "not compared yet"
    if not rows:
        return "$0"
    amounts = [row[column] for row in rows]
    known = sum((amount for amount in amounts if amount is not None), Decimal(0))
    unknown = amounts.count(None)
    return f"{_dollars(known)} and {unknown} of unknown cost" if unknown else _dollars(known)


def _dollars(amount: Any) -> str:
    if not isinstance(amount, (int, float, Decimal)):
        return _NOT_KNOWN
    usd = Decimal(str(amount))
    return f"${usd:,.2f}" if abs(usd) >= 1 or not usd else f"${usd:,.4f}"
