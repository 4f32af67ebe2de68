"""What the report says of the account: amounts as they were found, and what is not known as that."""

from __future__ import annotations

from decimal import Decimal

from segmind_dagster.reports.account_totals import in_words

READ = {
    "credits": {"balance (USD)": Decimal("12.3456"), "readings": 3, "spent a day (USD)": 1, "runway (days)": 12.3},
    "request_history": {"requests": 4, "charged (USD)": Decimal("0.0213")},
}


def test_what_was_read_and_compared_is_told_with_its_money() -> None:
    rows = {
        "spend_unexplained": [{"cost_usd": Decimal("0.5")}, {"cost_usd": None}],
        "spend_paid_twice": [],
        "spend_not_held": [{"cost_usd": Decimal("1.25")}, {"cost_usd": Decimal("0.25")}],
    }
    assert in_words(READ, rows) == {
        "balance": "$12.35",
        "lasts at the current rate": "12.3 days",
        "charged, by Segmind's history": "$0.0213",
        "charged by Segmind, not in our ledger": "$0.5000 and 1 of unknown cost",
        "paid twice by accident": "$0",
        "paid for and not stored": "$1.50",
    }


def test_what_was_never_read_or_compared_is_no_zero() -> None:
    told = in_words({}, {"spend_unexplained": None, "spend_paid_twice": None, "spend_not_held": None})
    assert set(told.values()) == {"not known", "not compared yet"}
    one_reading = {"credits": {"balance (USD)": Decimal(100), "runway (days)": "not known"}}
    assert in_words(one_reading, {})["lasts at the current rate"] == "not known"
