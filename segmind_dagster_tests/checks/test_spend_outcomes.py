"""What the reconciliation's checks say: the exact count and sum, what to do, and nothing where nothing is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from segmind_dagster.checks.outcomes import SAMPLE
from segmind_dagster.checks.spend import CHECKS, judged
from segmind_dagster.lifecycle.states import WRITTEN_OFF
from segmind_dagster.reports.spend_reach import Reach
from segmind_dagster.source import tables

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


READ = Reach(read_at=NOON, covered_from=NOON - timedelta(days=90), has_compared=True)


def of(name: str, rows: list[dict[str, Any]], *, reach: Reach = READ) -> Any:
    return judged(name, [dict.fromkeys(tables.SPEND_COLUMNS[name]) | row for row in rows], reach=reach)


def strange(cost: str | None, *, may_be_ours: bool = False) -> dict[str, Any]:
    return {"request_id": "r", "cost_usd": None if cost is None else Decimal(cost), "may_be_ours": may_be_ours}


@pytest.mark.parametrize("reach", [READ, Reach(), replace(READ, has_compared=False)])
def test_every_table_has_a_check_and_passes_without_rows(reach: Reach) -> None:
    assert set(CHECKS) == set(tables.SPEND_COLUMNS)
    for name in CHECKS:
        assert of(name, [], reach=reach).verdict == "passed"


@pytest.mark.parametrize("name", ["spend_unexplained", "spend_cost_differences", "spend_balance"])
def test_without_a_history_a_comparison_is_said_to_be_none(name: str) -> None:
    found = of(name, [], reach=Reach(newer=3, newer_usd=Decimal("0.06")))
    assert found.description == (
        "Nothing was compared with Segmind's history: it has not been loaded. Our ledger has 3 submissions, $0.0600 "
        "charged or reserved. Materialize `segmind/request_history` and `segmind/credits`, then this asset; all are "
        "free."
    )
    assert found.figures == {
        "history read at (UTC)": "never", "not compared yet": 3, "not compared yet (USD)": Decimal("0.06"),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["spend_paid_twice", "spend_not_held"])
def test_an_outcome_from_the_ledger_alone_says_so(name: str) -> None:
    assert "This is by our ledger alone. Nothing was compared" in of(name, [], reach=Reach()).description


@pytest.mark.parametrize("name", sorted(set(CHECKS) - {"spend_runway"}))
def test_every_outcome_says_until_when_it_holds_and_what_is_newer(name: str) -> None:
    assert of(name, []).description.endswith(
        "As of 2026-03-01 12:00 UTC, when Segmind's history was last read; our ledger has no charge after that."
    )
    found = of(name, [], reach=replace(READ, newer=1, newer_usd=Decimal("0.02")))
    assert (
        "As of 2026-03-01 12:00 UTC, when Segmind's history was last read. Not compared yet, because sent after that: "
        "1 submission, $0.0200 charged or reserved. Materialize"
    ) in found.description
    assert found.figures["history read at (UTC)"] == "2026-03-01 12:00:00"
    assert (found.figures["not compared yet"], found.figures["not compared yet (USD)"]) == (1, Decimal("0.02"))


@pytest.mark.parametrize("name", ["spend_unexplained", "spend_cost_differences"])
def test_a_ledger_newer_than_the_history_is_reported_as_not_compared(name: str) -> None:
    found = of(name, [], reach=replace(READ, has_compared=False, newer=2, newer_usd=Decimal("0.02")))
    assert found.verdict == "passed"
    assert found.description.startswith(
        "Nothing was compared with Segmind's history: it was last read 2026-03-01 12:00 UTC, and all that our ledger "
        "has is newer. Our ledger has 2 submissions, $0.0200 charged or reserved."
    )


def test_unexplained_charges_are_a_warning_with_count_and_sum() -> None:
    found = of("spend_unexplained", [strange("0.1"), strange("0.25"), strange(None)])
    assert found.verdict == "warning"
    assert found.description.startswith(
        "3 charges of $0.3500 and more (what 1 of them cost is not known) in Segmind's history are not in our ledger."
    )
    assert found.figures["not explained (USD)"] == Decimal("0.35")
    assert "collect" not in found.description


def test_a_charge_of_unknown_cost_is_not_counted_as_zero() -> None:
    found = of("spend_unexplained", [strange(None)])
    assert found.description.startswith("1 charge of unknown cost in Segmind's history is not in our ledger.")
    assert found.figures["not explained (USD)"] == "not known"


def test_a_charge_that_may_be_ours_is_an_error_that_names_collect() -> None:
    found = of("spend_unexplained", [strange("0.1", may_be_ours=True)])
    assert found.verdict == "error"
    assert found.description.startswith("1 charge of $0.1000 in Segmind's history is not in our ledger.")
    assert "segmind-dagster collect" in found.description
    assert "colleague" not in found.description


def test_a_sample_is_capped_and_the_count_is_not() -> None:
    excess = {"excess_usd": Decimal("0.5"), "decided_usd": Decimal(0), "charges": 2}
    found = of("spend_paid_twice", [{"generation_id": f"g{n}", **excess} for n in range(30)])
    assert (found.verdict, len(found.sample)) == ("error", SAMPLE)
    assert found.description.startswith("30 generations were charged more than once by accident, $15.0000 too much.")


def test_fetchable_and_lost_outputs_are_distinguished() -> None:
    def row(cost: str, *, can: bool, kind: str | None = None) -> dict[str, Any]:
        return {
            "cost_usd": Decimal(cost), "can_be_fetched": can, "expires_at": NOON + timedelta(days=1),
            "failure_kind": kind, "prompt_set": "fruit",
        }  # fmt: skip

    found = of("spend_not_held", [row("1", can=True), row("2", can=True, kind="bad_output"), row("4", can=False)])
    assert found.verdict == "error"
    first, damaged, lost, _ = found.description.splitlines()
    assert first.startswith("2 outputs worth $3.0000 can still be fetched, the first until 2026-03-02 12:00 UTC.")
    assert "segmind-dagster collect" in first
    assert damaged.endswith("materialized: fruit.")
    assert lost.startswith("1 output worth $4.0000 can no longer be fetched")
    assert (found.figures["can be fetched (USD)"], found.figures["lost (USD)"]) == (3, 4)
    written_off = of("spend_not_held", [row("8", can=False, kind=WRITTEN_OFF)])
    assert written_off.verdict == "passed"
    assert "1 lost output worth $8.0000 is to be bought again by decision" in written_off.description
    assert written_off.figures["written off by decision (USD)"] == 8


def test_costs_that_differ_are_summed_with_their_sign_and_missing_ones_apart() -> None:
    different = {"difference_usd": Decimal("-0.5"), "ledger_cost_usd": Decimal(1), "cost_source": "estimated"}
    absent = {"difference_usd": None, "ledger_cost_usd": Decimal(2), "cost_source": "reported"}
    found = of("spend_cost_differences", [different, absent])
    assert found.verdict == "warning"
    assert found.description.startswith(
        "1 request has another cost in Segmind's history than in our ledger: altogether the history has $0.5000 less."
    )
    assert "1 charge of $2.0000 in our ledger is not in Segmind's history" in found.description
    assert "In 1 of 2 the ledger's amount is our estimate" in found.description
    assert found.figures["of these, estimated by us"] == 1


def stretch(verdict: str, decrease: str, history: str | None) -> dict[str, Any]:
    known = None if history is None else Decimal(history)
    return {
        "from_at": NOON, "to_at": NOON, "decrease_usd": Decimal(decrease), "history_usd": known, "ledger_usd": known,
        "difference_usd": None if known is None else known - Decimal(decrease), "verdict": verdict,
    }  # fmt: skip


def test_a_matching_balance_is_reported_with_all_three_sums() -> None:
    rows = [stretch("agrees", "2", "2"), stretch("topped up", "-9", "1"), stretch("not known", "5", None)]
    found = of("spend_balance", rows)
    assert found.verdict == "passed"
    first, *others = found.description.splitlines()
    assert first == (
        "Apart from $10.0000 that came in, the balance fell by $3.0000, and Segmind's history lists $3.0000 as charged."
    )
    assert others[:2] == [
        "Our ledger has the same $3.0000.",
        "1 stretch between two readings not compared: Segmind's history does not cover it, or not all of it yet.",
    ]


def test_a_matching_balance_beside_foreign_charges_explains_both() -> None:
    found = of("spend_balance", [{**stretch("agrees", "3", "3"), "ledger_usd": Decimal(2)}])
    assert found.verdict == "passed"
    assert "Our ledger has $2.0000 of it. That is not for this check" in found.description
    assert "`charges_explained` tells of charges that are not ours" in found.description
    beside = of("spend_unexplained", [strange("1")])
    assert "Segmind lists what it charged, so `balance_agrees` can be green beside this." in beside.description


def test_an_unknown_ledger_sum_of_a_balance_is_reported_as_unknown() -> None:
    found = of("spend_balance", [{**stretch("agrees", "3", "3"), "ledger_usd": None}])
    assert "What our ledger has of it is not known yet." in found.description
    assert found.figures["charged according to the ledger (USD)"] == "not known"


def test_a_balance_without_a_known_interval_is_reported_as_not_compared() -> None:
    found = of("spend_balance", [stretch("not known", "5", None)])
    assert found.verdict == "passed"
    assert found.description.startswith("Nothing could be compared yet")
    assert found.figures["stretches compared"] == 0


def test_a_balance_that_fell_too_far_is_an_error_with_the_amount() -> None:
    found = of("spend_balance", [stretch("agrees", "2", "2"), stretch("fell too far", "5", "1.5")])
    assert found.verdict == "error"
    assert "the balance fell by $3.5000 more than Segmind's own history" in found.description
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
    latest = {"observed_at": NOON, "balance_usd": Decimal(10), "runway_days": days, "spent_per_day_usd": per_day}
    found = of("spend_runway", [latest])
    assert found.description.startswith("$10.0000 left as of 2026-03-01 12:00 UTC, when it was last read")
    assert found.verdict == verdict
    assert said in found.description
