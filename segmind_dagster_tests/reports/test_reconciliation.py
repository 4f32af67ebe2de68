"""Ledger, history and balance compared: exact where everything is known, and silent where it may only be early."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segmind_dagster.lifecycle.matching import Submission
from segmind_dagster.lifecycle.states import WRITTEN_OFF
from segmind_dagster.reports.reconciliation import (
    balance_windows,
    cost_differences,
    not_held,
    paid_twice,
    runways,
    unexplained,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LONG_AGO, LATER = NOON - timedelta(days=90), NOON + timedelta(days=30)
HOUR = timedelta(hours=1)
CENT = Decimal("0.01")
USD = st.integers(0, 10**12).map(lambda nano: Decimal(nano) / 10**9)


def balance(hours: float, usd: str | Decimal) -> dict[str, Any]:
    return {"observed_at": NOON + hours * HOUR, "balance_usd": Decimal(usd)}


def charge(hours: float, usd: str | Decimal | None, *, ledger: str | None = None, takes: float | None = 0.001) -> Any:
    began = NOON + hours * HOUR
    return {
        "created_at": began,
        "ended_at": None if takes is None else began + takes * HOUR,
        "cost_usd": None if usd is None else Decimal(usd),
        "ledger_cost_usd": None if ledger is None else Decimal(ledger),
        "is_ours": ledger is not None,
    }


def windows(balances: list[Any], charges: list[Any], **known: Any) -> list[dict[str, Any]]:
    return balance_windows(balances, charges, **{"covered_from": LONG_AGO, "read_at": LATER, **known})


def verdicts(*arguments: Any, **known: Any) -> list[str]:
    return [row["verdict"] for row in windows(*arguments, **known)]


@given(
    st.lists(st.tuples(st.integers(0, 9), USD, st.booleans()), max_size=30),
    st.lists(USD | st.just(Decimal(0)), min_size=10, max_size=10),
)
def test_charges_belong_to_the_window_of_their_end_and_the_rest_are_top_ups(
    charged: list[tuple[int, Decimal, bool]], top_ups: list[Decimal]
) -> None:
    # looks on the hour, charges at half past: none is near a look
    sums = [sum((usd for hour, usd, _ in charged if hour == each), Decimal(0)) for each in range(10)]
    balances = [balance(0, "1000000")]
    for hour, (spent, added) in enumerate(zip(sums, top_ups, strict=True), start=1):
        balances.append(balance(hour, balances[-1]["balance_usd"] - spent + added))
    charges = [charge(hour + 0.5, usd, ledger=str(usd) if ours else None) for hour, usd, ours in charged]
    for hour, row in enumerate(windows(balances, charges)):
        ours = sum((usd for each, usd, is_ours in charged if each == hour and is_ours), Decimal(0))
        assert (row["history_usd"], row["ledger_usd"], row["in_flight_usd"]) == (sums[hour], ours, 0)
        assert row["difference_usd"] == top_ups[hour]
        # an account that tells whole cents may have rounded
        are_cents = all(row[name] == row[name].quantize(CENT) for name in ("before_usd", "after_usd"))
        assert row["verdict"] == ("topped up" if top_ups[hour] > (CENT if are_cents else 0) else "agrees")


@given(st.integers(-3000, 3000), st.floats(0, 0.5), USD.filter(bool))
@example(-120, 0.0, Decimal("1E-9"))
@example(120, 0.0, Decimal("1E-9"))
def test_a_request_in_flight_at_a_reading_may_be_charged_before_or_after_it(
    seconds: int, takes: float, usd: Decimal
) -> None:
    began = seconds / 3600
    for charged_by_then in (usd, Decimal(0)):
        balances = [balance(-5, "100"), balance(0, 100 - charged_by_then), balance(5, 100 - usd)]
        ended_s = seconds + takes * 3600
        is_plain = ended_s < -120 or seconds > 120
        if is_plain and charged_by_then != (usd if ended_s <= 0 else 0):
            continue
        assert verdicts(balances, [charge(began, usd, takes=takes)]) == ["agrees", "agrees"]


def test_a_balance_that_falls_further_than_the_history_says_is_an_alarm_with_the_amount() -> None:
    (row,) = windows([balance(0, "10"), balance(5, "7")], [charge(2, "1", ledger="1")])
    assert (row["decrease_usd"], row["history_usd"], row["ledger_usd"], row["difference_usd"]) == (3, 1, 1, -2)
    assert row["verdict"] == "fell too far"


def test_a_window_the_history_may_not_have_yet_is_too_early_to_tell() -> None:
    balances = [balance(0, "10"), balance(5, "7")]
    assert verdicts(balances, [], read_at=NOON + 5.5 * HOUR) == ["too early to tell"]
    assert verdicts(balances, [], read_at=NOON + 6.5 * HOUR) == ["fell too far"]


@pytest.mark.parametrize(
    "known",
    [
        {"covered_from": None, "read_at": None},
        {"covered_from": NOON + HOUR},
        {"read_at": NOON + 4 * HOUR},
    ],
)
def test_a_window_not_covered_by_the_history_is_unknown(known: dict[str, Any]) -> None:
    (row,) = windows([balance(0, "10"), balance(5, "7")], [charge(2, "1")], **known)
    assert (row["history_usd"], row["difference_usd"], row["verdict"]) == (None, None, "not known")
    assert row["decrease_usd"] == 3


def test_a_charge_of_unknown_cost_makes_its_window_unknown_and_no_other() -> None:
    balances = [balance(0, "10"), balance(5, "9"), balance(10, "8")]
    rows = windows(balances, [charge(2, None), charge(7, "1")])
    assert [row["verdict"] for row in rows] == ["not known", "agrees"]
    assert [row["history_usd"] for row in rows] == [None, 1]


def test_the_ledger_sum_is_unknown_while_one_cost_is_unknown() -> None:
    pending = {**charge(2, "1", ledger="1"), "ledger_cost_usd": None}
    rows = windows([balance(0, "10"), balance(5, "8"), balance(10, "7")], [pending, charge(3, "1"), charge(7, "1")])
    assert [(row["history_usd"], row["ledger_usd"], row["verdict"]) for row in rows] == [
        (2, None, "agrees"),
        (1, 0, "agrees"),
    ]


def test_a_charge_at_an_unknown_time_makes_every_window_unknown() -> None:
    lost = {**charge(2, "1"), "created_at": None, "ended_at": None}
    assert verdicts([balance(0, "10"), balance(5, "9"), balance(10, "8")], [lost]) == ["not known", "not known"]


def test_a_request_in_flight_makes_only_the_next_day_unknown() -> None:
    balances = [balance(0, "10"), balance(5, "9"), balance(40, "8"), balance(60, "7")]
    assert verdicts(balances, [charge(4, "0", takes=None)]) == [
        "too early to tell",
        "too early to tell",
        "fell too far",
    ]


def test_fewer_than_two_readings_cannot_be_compared() -> None:
    assert windows([], [charge(1, "1")]) == windows([balance(0, "10")], [charge(1, "1")]) == []


def request(request_id: str = "r", **fields: Any) -> dict[str, Any]:
    return {
        "request_id": request_id, "model": "fast-flux-schnell", "status": "COMPLETED", "cost_usd": Decimal("0.01"),
        "created_at": NOON, "request_body": {"prompt": "a pear", "seed": 7}, **fields,
    }  # fmt: skip


def test_a_charge_is_explained_by_the_ledger_though_its_row_is_not_loaded_yet() -> None:
    rows = [request("ours"), request("theirs")]
    found = unexplained(rows, since=LONG_AGO, owned=lambda ids: {"ours"} & set(ids), unanswered=[])
    assert [(row["request_id"], row["may_be_ours"]) for row in found] == [("theirs", False)]


def test_charges_before_our_first_post_are_ignored() -> None:
    rows = [request("before", created_at=NOON - HOUR), request("after", created_at=NOON + HOUR)]
    rows.append(request("undated", created_at=None))
    found = unexplained(rows, since=NOON, owned=lambda _: (), unanswered=[])
    assert [row["request_id"] for row in found] == ["after", "undated"]
    assert unexplained(rows, since=None, owned=lambda _: (), unanswered=[]) == []


@pytest.mark.parametrize(
    ("model", "body", "may_be_ours"),
    [
        ("fast-flux-schnell", {"prompt": "a pear", "seed": 7}, True),
        ("Fast_Flux.Schnell", {"prompt": "a pear"}, True),
        ("fast-flux-schnell", {"prompt": "a plum", "seed": 7}, False),
        ("instantid", {"prompt": "a pear", "seed": 7}, False),
    ],
)
def test_a_charge_with_the_body_of_a_lost_submission_may_be_ours(
    model: str, body: dict[str, Any], *, may_be_ours: bool
) -> None:
    sent = Submission(key="lost", model_slug=model, body=body)
    (row,) = unexplained([request()], since=LONG_AGO, owned=lambda _: (), unanswered=[sent])
    assert row["may_be_ours"] is may_be_ours


@given(st.lists(st.tuples(st.integers(0, 3), USD, st.booleans()), max_size=12))
def test_charges_beyond_the_first_are_accidental_or_decided(
    charged: list[tuple[int, Decimal, bool]],
) -> None:
    rows = [
        {
            "generation_id": f"g{n}", "model": "m", "prompt_set": "fruit", "request_id": f"r{n}-{place}",
            "cost_usd": usd, "intent_at": NOON + place * HOUR, "failure_kind": WRITTEN_OFF if is_written_off else None,
        }
        for place, (n, usd, is_written_off) in enumerate(sorted(charged, key=lambda each: each[0]))
    ]  # fmt: skip
    found = paid_twice(rows)
    assert sum(row["charges"] for row in found) == len(rows)
    for row in found:
        own = [each for each in rows if each["generation_id"] == row["generation_id"]]
        decided = [own[n + 1]["cost_usd"] for n in range(len(own) - 1) if own[n]["failure_kind"] == WRITTEN_OFF]
        assert row["cost_usd"] == sum((each["cost_usd"] for each in own), Decimal(0))
        assert row["decided_usd"] == sum(decided, Decimal(0))
        assert row["excess_usd"] + row["decided_usd"] == row["cost_usd"] - own[0]["cost_usd"]
        assert row["request_ids"].split(", ") == [each["request_id"] for each in own]


def test_an_output_can_be_fetched_for_seven_days_unless_segmind_said_that_it_is_gone() -> None:
    def row(name: str, days: float, kind: str | None = None) -> dict[str, Any]:
        return {"generation_id": name, "submitted_at": NOON - timedelta(days=days), "failure_kind": kind}

    rows = [row("new", 1), row("old", 7.1), row("gone", 1, "expired"), row("damaged", 6.9, "bad_output")]
    rows.append(row("written off", 1, WRITTEN_OFF))
    found = not_held([*rows, row("fetched since", 1)], settled={"fetched since"}, now=NOON)
    assert {each["generation_id"]: each["can_be_fetched"] for each in found} == {
        "new": True, "old": False, "gone": False, "damaged": True, "written off": False,
    }  # fmt: skip
    assert found[0]["expires_at"] == NOON + timedelta(days=6)


def difference(**fields: Any) -> dict[str, Any]:
    return {
        "generation_id": "g", "attempt": 1, "model": "m", "prompt_set": "fruit", "request_id": "r",
        "ledger_cost_usd": Decimal("0.02"), "cost_source": "reported", "submitted_at": NOON, "found_id": "r",
        "history_status": "COMPLETED", "history_cost_usd": Decimal("0.03"), **fields,
    }  # fmt: skip


def test_different_costs_are_reported_with_the_difference() -> None:
    (row,) = cost_differences([difference()], covered_from=LONG_AGO, read_at=LATER)
    assert (row["what"], row["difference_usd"]) == ("different", Decimal("0.01"))


@pytest.mark.parametrize(
    ("fields", "known", "told"),
    [
        ({}, {}, True),
        ({}, {"covered_from": NOON + HOUR}, False),
        ({}, {"read_at": NOON + 0.5 * HOUR}, False),
        ({"submitted_at": None}, {}, False),
    ],
)
def test_a_charge_missing_in_the_history_is_reported_once_it_must_be_listed(
    fields: dict[str, Any], known: dict[str, Any], *, told: bool
) -> None:
    absent = difference(found_id=None, history_status=None, history_cost_usd=None, **fields)
    found = cost_differences([absent], **{"covered_from": LONG_AGO, "read_at": LATER, **known})
    assert [(row["what"], row["difference_usd"]) for row in found] == [("absent from the history", None)] * told


def test_the_cost_of_an_unfinished_request_is_no_difference_yet() -> None:
    pending = difference(history_status="PENDING", history_cost_usd=Decimal(0))
    assert cost_differences([pending], covered_from=LONG_AGO, read_at=LATER) == []


def test_a_runway_is_the_balance_over_the_spending_of_the_week_before() -> None:
    rows = runways([balance(24 * day, str(100 - 2 * day)) for day in range(11)])
    assert [row["runway_days"] for row in rows[:2]] == [None, pytest.approx(49)]
    assert rows[-1]["spent_per_day_usd"] == pytest.approx(Decimal(2))
    assert rows[-1]["runway_days"] == pytest.approx(40)


def test_a_runway_is_unknown_for_less_than_a_day_or_without_spending() -> None:
    early = runways([balance(0, "10"), balance(23, "5")])[-1]
    assert (early["spent_per_day_usd"], early["runway_days"], early["spent_usd"]) == (None, None, 5)
    idle = runways([balance(0, "10"), balance(48, "10")])[-1]
    assert (idle["spent_per_day_usd"], idle["runway_days"]) == (0, None)


def test_an_interval_with_a_top_up_is_ignored_for_spending() -> None:
    row = runways([balance(0, "10"), balance(24, "8"), balance(48, "50"), balance(72, "48")])[-1]
    assert (row["spent_usd"], row["days"]) == (4, 2)
    assert row["runway_days"] == pytest.approx(24)


@given(st.lists(st.tuples(st.integers(1, 10**6), USD), max_size=20))
def test_a_runway_never_fails_and_never_lasts_less_than_nothing(looks: list[tuple[int, Decimal]]) -> None:
    at, balances = NOON, []
    for seconds, usd in looks:
        at += timedelta(seconds=seconds)
        balances.append({"observed_at": at, "balance_usd": usd - 10})
    rows = runways(balances)
    assert [row["observed_at"] for row in rows] == [each["observed_at"] for each in balances]
    assert all(row["runway_days"] is None or row["runway_days"] >= 0 for row in rows)
