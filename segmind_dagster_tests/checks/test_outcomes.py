"""What the checks say to people: exact counts first, the money, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.checks import outcomes
from segmind_dagster.checks.completeness import completeness
from segmind_dagster.checks.outcomes import SAMPLE, CheckOutcome
from segmind_dagster.lifecycle.failures import POLICIES
from segmind_dagster.lifecycle.generation import Generation
from segmind_dagster.lifecycle.next_step import MOST_RUNS
from segmind_dagster.outputs.inspection import Inspection
from segmind_dagster.registry.models import FAST_FLUX_SCHNELL

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
CENT = Decimal("0.01")


def row(state: str = "failed", kind: str | None = "server_error", **fields: Any) -> Generation:
    usual: dict[str, Any] = {
        "generation_id": "g", "prompt_set": "fruit", "model": FAST_FLUX_SCHNELL, "prompt": "a fig", "failed_runs": 1,
        "submitted_at": NOW, "error": "500",
    }  # fmt: skip
    return Generation(state=state, failure_kind=kind, **{**usual, **fields})


def judged(*rows: Generation, asked_for: int = 10) -> CheckOutcome:
    return completeness(asked_for, rows, prompt_set="fruit", now=NOW)


@pytest.mark.parametrize(
    ("open_row", "verdict", "words"),
    [
        (row(kind="server_error"), "warning", "1 failed and can be tried again"),
        (row(kind="server_error", failed_runs=MOST_RUNS), "error", "1 failed for good"),
        (row(kind="invalid_request"), "error", "1 failed for good"),
        (row(kind="retired_model"), "error", "choose another one"),
        (row(kind="bad_output"), "warning", "1 paid for but came damaged"),
        (row(kind="bad_output", submitted_at=NOW - timedelta(days=8)), "error", "1 paid for but gone from Segmind"),
        (row(kind="expired"), "error", "1 paid for but gone from Segmind"),
        (row("unknown", "unknown_outcome"), "error", "segmind-dagster resolve"),
        (row("submitting", None), "error", "1 submitted with an unknown outcome"),
        (row("submitted", None), "warning", "segmind-dagster collect"),
        (row("planned", None, submitted_at=None), "warning", "1 not bought yet"),
        (row("planned", "server_error", failed_runs=MOST_RUNS), "error", "1 failed for good"),
        (row("planned", "no_credits"), "warning", "no_credits (1): Top up the account"),
        (row("planned", "over_budget"), "warning", "SEGMIND_DAILY_BUDGET_USD"),
        (row(kind="from_the_future"), "error", "from_the_future (1): This version does not know"),
        (row(kind=""), "error", "1 failed for good"),
        (row(kind=None), "error", "no kind recorded (1): This version does not know"),
        (row("planned", "from_the_future"), "warning", "1 not bought yet"),
    ],
)
def test_unfinished_generations_have_a_verdict_and_a_remedy(open_row: Generation, verdict: str, words: str) -> None:
    found = judged(open_row)
    assert found.verdict == verdict
    assert words in found.description
    assert found.description.startswith("9 of 10 generations are stored; 1 ")


def test_paid_refused_outputs_are_reported_with_cost_file_and_advice() -> None:
    rows = [row(generation_id=f"g{n}", kind="bad_output", cost_usd=CENT, error="no known format") for n in range(3)]
    found = completeness(
        9, rows, prompt_set="fruit", now=NOW, quarantined={"g1": "/data/outputs/quarantine/m/g1.1.a.svg"}
    )
    assert found.verdict == "warning"
    assert found.figures["paid for and not usable (USD)"] == 3 * CENT
    assert found.figures["of these with a file in quarantine"] == 1
    for words in (
        "$0.0300 was paid for 3 outputs that cannot be used",
        "/data/outputs/quarantine/m/g1.1.a.svg",
        "`segmind-dagster collect` fetches them again, free of charge",
        "resolve GENERATION --buy-again",
    ):
        assert words in found.description
    assert [(each["generation"], each["file"]) for each in found.sample] == [
        ("g0", ""), ("g1", "/data/outputs/quarantine/m/g1.1.a.svg"), ("g2", ""),
    ]  # fmt: skip
    assert all(each["error"] == "no known format" for each in found.sample)


@pytest.mark.parametrize("state", ["submitting", "submitted", "unknown"])
def test_generations_of_a_live_run_are_not_reported_as_unfinished(state: str) -> None:
    found = judged(row(state, None, is_owner_alive=True))
    assert found.verdict == "passed"
    assert found.description == "9 of 10 generations are stored, 1 being worked on; nothing failed."


def test_one_error_among_warnings_makes_an_error_and_comes_first_in_the_sample() -> None:
    found = judged(row(), row(), row(kind="invalid_request", prompt="a plum"))
    assert found.verdict == "error"
    assert found.sample[0]["prompt"] == "a plum"


@given(st.lists(st.sampled_from([*POLICIES, None, "from_the_future", "\0"]), max_size=40))
def test_counts_are_exact_and_the_sample_is_short(kinds: list[str | None]) -> None:
    found = judged(*(row(kind=kind) for kind in kinds), asked_for=50)
    others = ("generations asked for", "paid for and not usable (USD)", "of these with a file in quarantine")
    counted = {name: figure for name, figure in found.figures.items() if name not in others}
    assert sum(counted.values()) == 50
    assert len(found.sample) == min(len(kinds), SAMPLE)
    assert (found.verdict == "passed") == (not kinds)
    assert ("The table shows" in found.description) == (len(kinds) > SAMPLE)


def test_an_empty_set_passes() -> None:
    assert judged(asked_for=0).verdict == "passed"


def test_files_with_faults_are_counted_by_fault() -> None:
    faults = (("a", "missing"), ("b", "missing"), ("c", "other size"))
    found = outcomes.files(Inspection(files=9, looked_for=9, digested=4, seed="monday", faults=faults))  # type: ignore[arg-type]
    assert found.verdict == "error"
    assert found.description.startswith("3 of 9 stored outputs are not what was paid for: 2 missing, 1 other size")
    assert "the digest of 4 were compared" in found.description
    assert found.figures["sample drawn with"] == "monday"


@pytest.mark.parametrize("files", [0, 3])
def test_files_without_faults_pass(files: int) -> None:
    assert outcomes.files(Inspection(files=files, looked_for=files, digested=files)).verdict == "passed"


@pytest.mark.parametrize(
    ("budget", "used", "verdict"),
    [
        (None, "5", "passed"),
        ("1", "0", "passed"),
        ("1", "0.79", "passed"),
        ("1", "0.80", "warning"),
        ("1", "1", "warning"),
        ("1", "1.0001", "error"),
    ],
)
def test_a_budget_is_fine_until_four_fifths_and_wrong_beyond_it(budget: str | None, used: str, verdict: str) -> None:
    found = outcomes.budget(
        prompt_set="fruit",
        budget_usd=Decimal(budget) if budget else None,
        committed_usd=Decimal(used),
        of_model_usd=CENT,
        problem=None,
    )
    assert found.verdict == verdict
    assert found.figures["used by the set (USD)"] == Decimal(used)
    assert found.figures.get("left (USD)", 0) >= 0


def charged(excess: str = "0", decided: str = "0") -> dict[str, Any]:
    return {
        "generation_id": "g", "prompt_set": "fruit", "charges": 2, "request_ids": "a, b",
        "excess_usd": Decimal(excess), "decided_usd": Decimal(decided),
    }  # fmt: skip


def test_charges_beyond_the_first_are_summed_as_overpaid() -> None:
    found = outcomes.charged_once([charged("0.02")] * 8)
    assert found.verdict == "error"
    assert found.description.startswith("8 generations were charged more than once by accident, $0.1600 too much.")
    assert found.figures["paid too much (USD)"] == Decimal("0.16")
    assert len(found.sample) == SAMPLE
    assert outcomes.charged_once([]).verdict == "passed"


def test_purchases_repeated_by_a_person_are_shown_without_alarm() -> None:
    found = outcomes.charged_once([charged(decided="0.02"), charged(decided="0.03")])
    assert found.verdict == "passed"
    first, second = found.description.splitlines()
    assert first == "No generation was charged more than once by accident."
    assert second.startswith("2 generations were bought again by decision for $0.0500")
    assert found.figures["bought again by decision (USD)"] == Decimal("0.05")
    assert [row["decided_usd"] for row in found.sample] == [0.02, 0.03]


def test_an_accidental_charge_beside_a_decided_one_is_still_reported() -> None:
    found = outcomes.charged_once([charged(decided="0.02"), charged("0.01", "0.02")])
    assert found.verdict == "error"
    assert "1 generation was charged more than once by accident, $0.0100 too much." in found.description
    assert "2 generations were bought again by decision for $0.0400" in found.description


def waiting(days: float, state: str = "submitted", prompt_set: str = "fruit") -> Generation:
    return Generation(
        generation_id="g", prompt_set=prompt_set, model=FAST_FLUX_SCHNELL, state=state,
        submitted_at=NOW - timedelta(days=days), cost_usd=CENT,
    )  # type: ignore[arg-type]  # fmt: skip


def test_expiring_outputs_are_counted_with_cost_and_command() -> None:
    found = outcomes.about_to_expire([waiting(8), waiting(6), waiting(0.1), waiting(0.01)], now=NOW)
    assert found.verdict == "error"
    assert "2 outputs worth $0.0200" in found.description
    assert "1 may be gone by now" in found.description
    assert "segmind-dagster collect" in found.description
    assert (found.figures["waiting at Segmind"], found.figures["status record gone (after 1 h)"]) == (4, 3)


def test_damaged_outputs_are_fetched_by_materializing_their_set() -> None:
    found = outcomes.about_to_expire([waiting(6, "failed", "figs"), waiting(6, "failed", "apples")], now=NOW)
    assert "materialized: apples, figs." in found.description
    assert "collect" not in found.description


def test_young_submissions_pass() -> None:
    found = outcomes.about_to_expire([waiting(4.9)], now=NOW)
    assert found.verdict == "passed"
    assert "1 younger submission is in flight" in found.description


def test_the_combined_outcome_names_every_set_that_does_not_pass() -> None:
    fine, late, bad = (CheckOutcome(verdict=verdict, description="d") for verdict in ("passed", "warning", "error"))  # type: ignore[arg-type]
    assert outcomes.combined({"a": fine, "b": fine}).verdict == "passed"
    assert outcomes.combined({"a": fine, "b": late}).verdict == "warning"
    whole = outcomes.combined({"a": bad, "b": late, "c": fine})
    assert (whole.verdict, whole.description) == ("error", "2 of 3 prompt sets do not pass: a, b.")
    many = outcomes.combined({f"s{n}": bad for n in range(25)})
    assert "s19 and 5 more" in many.description
    assert len(many.sample) == SAMPLE


@pytest.mark.parametrize(("models", "verdict"), [(None, "passed"), (0, "warning"), (508, "passed")])
def test_a_models_page_without_models_is_a_warning_and_one_never_read_is_not(models: int | None, verdict: str) -> None:
    found = outcomes.page_understood(models)
    assert found.verdict == verdict
    assert found.figures["models on the page"] == ("not known" if models is None else models)
    assert ("kept in `models_page` as it came" in found.description) is (models == 0)
