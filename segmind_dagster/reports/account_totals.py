"""What the usage report says of the account: balance and how long it lasts, and whether the books agree.

Figures are taken from the account's tables and the comparisons as they were made last. Where there was nothing to
compare with, no row is no answer: that is said to be not known, never $0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from segmind_dagster.reports.account import account_figures
from segmind_dagster.reports.queries import ask, has_tables
from segmind_dagster.reports.spend import reading_of
from segmind_dagster.reports.spend_sql import BOTH_BOOKS
from segmind_dagster.reports.summaries import fitted, read_rows
from segmind_dagster.source import history, tables
from segmind_dagster.source.pipeline import warehouse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from segmind_dagster.settings import Settings


class _Comparison(NamedTuple):
    """A table whose rows should not be there, where their money stands, and whether it is nothing without a history."""

    title: str
    column: str
    needs_history: bool


COMPARED: Final[Mapping[str, _Comparison]] = {
    "spend_unexplained": _Comparison("charged by Segmind, not in our ledger", "cost_usd", needs_history=True),
    "spend_paid_twice": _Comparison("paid twice by accident", "excess_usd", needs_history=False),
    "spend_not_held": _Comparison("paid for and not stored", "cost_usd", needs_history=False),
}
_NOT_KNOWN: Final = "not known"
_BOOKS: Final[tables.Columns] = {
    "history_usd": {"data_type": "decimal"},
    "history_unknown": {"data_type": "bigint"},
    "ledger_usd": {"data_type": "decimal"},
    "ledger_unknown": {"data_type": "bigint"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What is known of the account.

    Args:
        balance: figures of `credits`; see `account.account_figures`.
        read_at: until when Segmind's history was read; None when it never was.
        books: what both books say of the requests in it; see `spend_sql.BOTH_BOOKS`.
        compared: rows of each comparison that was made.
    """

    balance: Mapping[str, Any] = field(default_factory=dict)
    read_at: datetime | None = None
    books: Mapping[str, Any] = field(default_factory=dict)
    compared: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def account_totals(settings: Settings) -> dict[str, str]:
    """Name and amount of each figure; what was never read or compared is said to be not known.

    Raises:
        SegmindDagsterError: the warehouse cannot be read.
    """
    origin = settings.api_origin
    balance = account_figures(settings, ("credits",)).get("credits", {})
    with warehouse(settings, purpose="reading the comparisons") as pipeline:
        reading = reading_of(pipeline, history.RESOURCE, origin)
        books: list[dict[str, Any]] = []
        if reading is not None and has_tables(pipeline, history.RESOURCE, "attempts"):
            books = ask(pipeline, BOTH_BOOKS, api_origin=origin)
        compared = {name: rows for name in COMPARED if (rows := _compared(pipeline, name, origin)) is not None}
    return in_words(
        Account(
            balance=balance,
            read_at=reading.read_at if reading else None,
            books=fitted(books[0], _BOOKS) if books else {},
            compared=compared,
        )
    )


def _compared(pipeline: Any, name: str, origin: str) -> list[dict[str, Any]] | None:
    """The rows of a comparison; None when it was not made for this account, or had nothing to compare with."""
    if not has_tables(pipeline, name, "attempts"):
        return None
    if COMPARED[name].needs_history and reading_of(pipeline, name, origin) is None:
        return None
    rows = read_rows(pipeline, name, tables.SPEND_COLUMNS[name])
    # the tables are of the account that was compared last
    return rows if all(row["api_origin"] == origin for row in rows) else None


def in_words(account: Account) -> dict[str, str]:
    """The same from what was read already. Pure."""
    days: Any = account.balance.get("runway (days)", _NOT_KNOWN)
    books = account.books
    return {
        "balance": _dollars(account.balance.get("balance (USD)")),
        "lasts at the current rate": days if isinstance(days, str) else f"{days:,} days",
        "charged, by Segmind's history": _sum(books, "history"),
        "the same requests, by our ledger": _sum(books, "ledger"),
        **{each.title: _found(account.compared.get(name), each.column) for name, each in COMPARED.items()},
        "Segmind's history read (UTC)": f"{account.read_at:%Y-%m-%d %H:%M}" if account.read_at else "never",
    }


def _sum(books: Mapping[str, Any], book: str) -> str:
    return _with_unknown(books[f"{book}_usd"], books[f"{book}_unknown"] or 0) if books else _NOT_KNOWN


def _found(rows: Sequence[Mapping[str, Any]] | None, column: str) -> str:
    if rows is None:
        return _NOT_KNOWN
    amounts = [row[column] for row in rows]
    known = [amount for amount in amounts if amount is not None]
    return _with_unknown(sum(known, Decimal(0)) if known else None, amounts.count(None))


def _with_unknown(known: Decimal | None, unknown: int) -> str:
    """A sum, and of how many parts it lacks the amount; without any part it is 0."""
    if not unknown:
        return _dollars(known or Decimal(0))
    return f"{unknown} unknown" if known is None else f"{_dollars(known)} + {unknown} unknown"


def _dollars(amount: Decimal | int | None) -> str:
    if amount is None:
        return _NOT_KNOWN
    return f"${amount:,.2f}" if not amount or not -1 < amount < 1 else f"${amount:,.4f}"
