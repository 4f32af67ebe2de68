"""What the reconciliation's checks say: the exact count and sum, what to do, and nothing where nothing is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from segmind_dagster.reports.findings import SAMPLE
from segmind_dagster.reports.spend_findings import CHECKS, judged
from segmind_dagster.source import tables

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def of(name: str, rows: list[dict[str, Any]], *, has_history: bool = True) -> Any:
    return judged(name, [dict.fromkeys(tables.SPEND_COLUMNS[name]) | row for row in rows], has_history=has_history)


def strange(cost: str | None, *, may_be_ours: bool = False) -> dict[str, Any]:
    return {"request_id": "r", "cost_usd": None if cost is None else Decimal(cost), "may_be_ours": may_be_ours}


def test_every_table_has_a_check_and_passes_without_rows() -> None:
    assert set(CHECKS) == set(tables.SPEND_COLUMNS)
    for name in CHECKS:
        for has_history in (True, False):
            assert of(name, [], has_history=has_history).verdict == "passed"


@pytest.mark.parametrize("name", ["spend_unexplained", "spend_cost_differences", "spend_balance"])
def test_without_a_history_a_comparison_is_said_to_be_unknown(name: str) -> None:
    found = of(name, [], has_history=False)
    assert "has not been loaded" in found.description
    assert "segmind/request_history" in found.description
    assert list(found.figures.values()) == ["not known"]


def test_charges_that_nobody_explains_are_a_warning_with_count_and_sum() -> None:
    found = of("spend_unexplained", [strange("0.1"), strange("0.25"), strange(None)])
    assert found.verdict == "warning"
    assert found.description.startswith(
        "3 charges of $0.3500 in Segmind's history are not in our ledger; what 1 of them"
    )
    assert found.figures["not explained (USD)"] == Decimal("0.35")
    assert "collect" not in found.description


def test_a_charge_that_may_be_ours_is_an_error_that_names_collect() -> None:
    found = of("spend_unexplained", [strange("0.1", may_be_ours=True)])
    assert found.verdict == "error"
    assert found.description.startswith("1 charge of $0.1000 in Segmind's history is not in our ledger.")
    assert "segmind-dagster collect" in found.description
    assert "colleague" not in found.description


def test_a_sample_is_capped_and_the_count_is_not() -> None:
    rows = [{"generation_id": f"g{n}", "excess_usd": Decimal("0.5"), "charges": 2} for n in range(30)]
    found = of("spend_paid_twice", rows)
    assert (found.verdict, len(found.sample)) == ("error", SAMPLE)
    assert found.description.startswith("30 generations were paid for more than once, $15.0000 too much.")


def test_what_can_be_fetched_and_what_is_lost_are_told_apart() -> None:
    def row(cost: str, *, can: bool, kind: str | None = None) -> dict[str, Any]:
        return {
            "cost_usd": Decimal(cost), "can_be_fetched": can, "expires_at": NOON + timedelta(days=1),
            "failure_kind": kind, "prompt_set": "fruit",
        }  # fmt: skip

    found = of("spend_not_held", [row("1", can=True), row("2", can=True, kind="bad_output"), row("4", can=False)])
    assert found.verdict == "error"
    first, damaged, lost = found.description.splitlines()
    assert first.startswith("2 outputs worth $3.0000 can still be fetched, the first until 2026-03-02 12:00 UTC.")
    assert "segmind-dagster collect" in first
    assert damaged.endswith("materialized: fruit.")
    assert lost.startswith("1 output worth $4.0000 can no longer be fetched")
    assert (found.figures["can be fetched (USD)"], found.figures["lost (USD)"]) == (3, 4)


def test_costs_that_differ_are_summed_with_their_sign_and_missing_ones_apart() -> None:
    different = {"difference_usd": Decimal("-0.5"), "ledger_cost_usd": Decimal(1), "cost_source": "estimated"}
    absent = {"difference_usd": None, "ledger_cost_usd": Decimal(2), "cost_source": "reported"}
    found = of("spend_cost_differences", [different, absent])
    assert found.verdict == "warning"
    assert (
        "1 request has another cost in Segmind's history than in our ledger: $-0.5000 altogether." in found.description
    )
    assert "1 charge of $2.0000 in our ledger is not in Segmind's history." in found.description
    assert found.figures["of these, estimated by us"] == 1


def stretch(verdict: str, decrease: str, history: str | None) -> dict[str, Any]:
    known = None if history is None else Decimal(history)
    return {
        "from_at": NOON, "to_at": NOON, "decrease_usd": Decimal(decrease), "history_usd": known, "ledger_usd": known,
        "difference_usd": None if known is None else known - Decimal(decrease), "verdict": verdict,
    }  # fmt: skip


def test_a_balance_that_agrees_is_told_with_all_three_sums() -> None:
    rows = [stretch("agrees", "2", "2"), stretch("topped up", "-9", "1"), stretch("not known", "5", None)]
    found = of("spend_balance", rows)
    assert found.verdict == "passed"
    assert found.description == (
        "$3.0000 in Segmind's history and $3.0000 in our ledger against a balance that fell by $3.0000, apart from "
        "$10.0000 that came in. 1 stretch is left open: not known, or too early to tell."
    )


def test_a_balance_that_fell_too_far_is_an_error_with_the_amount() -> None:
    found = of("spend_balance", [stretch("agrees", "2", "2"), stretch("fell too far", "5", "1.5")])
    assert found.verdict == "error"
    assert "the balance fell by $3.5000 more than" in found.description
    assert found.figures["gone without a record (USD)"] == Decimal("3.5")


@pytest.mark.parametrize(
    ("days", "per_day", "verdict", "said"),
    [
        (None, None, "passed", "too little to tell"),
        (None, Decimal(0), "passed", "nothing was spent lately"),
        (40.0, Decimal("0.25"), "passed", "40.0 days at $0.2500 a day"),
        (2.9, Decimal(4), "warning", "Top up the account"),
    ],
)
def test_a_short_runway_is_a_warning_and_an_unknown_one_is_not(
    days: float | None, per_day: Decimal | None, verdict: str, said: str
) -> None:
    found = of("spend_runway", [{"balance_usd": Decimal(10), "runway_days": days, "spent_per_day_usd": per_day}])
    assert found.verdict == verdict
    assert said in found.description
