"""What the report says of the account: amounts as they were found, and what is not known as that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from lab.warehouse import ORIGIN, Attempt, Request

from segmind_dagster.reports.account_totals import Account, in_words
from segmind_dagster.reports.spend_sql import BOTH_BOOKS

if TYPE_CHECKING:
    from lab.warehouse import Warehouse

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
USD = Decimal("0.25")


def test_read_and_compared_totals_are_reported_with_their_amounts() -> None:
    account = Account(
        balance={"balance (USD)": Decimal("12.3456"), "runway (days)": 12.3},
        read_at=NOON,
        books={
            "history_usd": Decimal("1.5213"), "history_unknown": 2, "ledger_usd": Decimal("0.0213"),
            "ledger_unknown": 0,
        },
        compared={
            "spend_unexplained": [{"cost_usd": Decimal("0.5")}, {"cost_usd": None}],
            "spend_paid_twice": [],
            "spend_not_held": [{"cost_usd": Decimal("1.25")}, {"cost_usd": USD}],
        },
    )  # fmt: skip
    assert in_words(account) == {
        "balance": "$12.35",
        "lasts at the current rate": "12.3 days",
        "charged, by Segmind's history": "$1.52 + 2 unknown",
        "the same requests, by our ledger": "$0.0213",
        "charged by Segmind, not in our ledger": "$0.5000 + 1 unknown",
        "paid twice by accident": "$0.00",
        "paid for and not stored": "$1.50",
        "Segmind's history read (UTC)": "2026-03-01 12:00",
    }


def test_totals_that_were_never_read_are_not_zero() -> None:
    assert set(in_words(Account()).values()) == {"not known", "never"}
    one_reading = Account(balance={"balance (USD)": Decimal(100), "runway (days)": "not known"})
    assert in_words(one_reading)["lasts at the current rate"] == "not known"


def test_charges_of_unknown_cost_are_counted_without_an_amount() -> None:
    told = in_words(Account(compared={"spend_unexplained": [{"cost_usd": None}]}))
    assert told["charged by Segmind, not in our ledger"] == "1 unknown"


def test_both_books_are_about_the_requests_of_the_account_since_its_first_post(warehouse: Warehouse) -> None:
    day = timedelta(days=1)
    warehouse.fill([
        Attempt(generation_id="a", request_id="r1", cost_usd=USD, intent_at=NOON),
        Attempt(generation_id="b", request_id="r2", intent_at=NOON),
        Attempt(generation_id="c", request_id="not listed", cost_usd=USD, intent_at=NOON),
        # our clock may be ahead
        Request(request_id="r1", cost_usd=2 * USD, created_at=NOON - timedelta(seconds=5)),
        Request(request_id="r2", cost_usd=None, created_at=NOON),
        Request(request_id="somebody's", cost_usd=USD, created_at=NOON + day),
        Request(request_id="failed", status="FAILED", created_at=NOON + day),
        Request(request_id="before us", cost_usd=100 * USD, created_at=NOON - day),
        Request(request_id="other account", cost_usd=100 * USD, created_at=NOON, api_origin="elsewhere"),
    ])  # fmt: skip
    (books,) = warehouse.query(BOTH_BOOKS, api_origin=ORIGIN)
    assert books == {"history_usd": 3 * USD, "history_unknown": 1, "ledger_usd": USD, "ledger_unknown": 1}
