"""The joins of ledger, history and balance find what Python finds in the same rows, and only of one account."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from lab.warehouse import ORIGIN, Attempt, Balance, Request

from segmind_dagster.reports import spend_sql

if TYPE_CHECKING:
    from lab.warehouse import Warehouse

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OTHER = f"{ORIGIN}#studio"
USD = st.integers(0, 3).map(lambda cents: Decimal(cents) / 100)


@st.composite
def books(draw: st.DrawFn) -> tuple[list[Attempt], list[Request]]:
    """Attempts and requests; some of them the same, some with another cost, some of another account."""
    attempts, requests = [], []
    for n in range(draw(st.integers(0, 10))):
        origin = draw(st.sampled_from([ORIGIN, ORIGIN, OTHER]))
        cost = draw(st.none() | USD)
        where = draw(st.sampled_from(["both", "ledger", "history"]))
        if where != "history":
            generation = draw(st.integers(0, 4))
            attempts.append(
                Attempt(
                    generation_id=f"g{generation}-{origin}", attempt=n, request_id=f"r{n}", cost_usd=cost,
                    status=draw(st.sampled_from(["succeeded", "failed", "submitted"])), intent_at=NOON,
                    api_origin=origin,
                )
            )  # fmt: skip
        if where != "ledger":
            told = cost if draw(st.booleans()) else draw(st.none() | USD)
            requests.append(Request(request_id=f"r{n}", cost_usd=told, created_at=NOON, api_origin=origin))
    return attempts, requests


@given(books())
def test_foreign_charges_are_requests_without_an_attempt(
    warehouse: Warehouse, books: tuple[list[Attempt], list[Request]]
) -> None:
    attempts, requests = books
    warehouse.fill([*attempts, *requests])
    for origin in (ORIGIN, OTHER):
        ours = {each.request_id for each in attempts if each.api_origin == origin}
        expected = {
            each.request_id: each.cost_usd
            for each in requests
            if each.api_origin == origin and each.request_id not in ours and each.cost_usd != 0
        }
        rows = warehouse.query(spend_sql.NOT_OURS, api_origin=origin)
        assert {row["request_id"]: row["cost_usd"] for row in rows} == expected


@given(books=books(), with_history=st.booleans())
def test_repeated_and_lost_charges_match_a_loop_over_the_attempts(
    warehouse: Warehouse, books: tuple[list[Attempt], list[Request]], *, with_history: bool
) -> None:
    attempts, requests = books
    warehouse.fill([*attempts, *requests])
    told = {each.request_id: each.cost_usd for each in requests} if with_history else {}
    own = [each for each in attempts if each.api_origin == ORIGIN]
    charged = {
        (each.generation_id, each.attempt): cost
        for each in own
        if (cost := told.get(each.request_id) if each.cost_usd is None else each.cost_usd)
    }
    counts = Counter(generation for generation, _ in charged)
    held = {each.generation_id for each in own if each.status == "succeeded"}
    again = warehouse.query(spend_sql.charged_again(with_history=with_history), api_origin=ORIGIN)
    assert {(row["generation_id"], row["attempt"]): row["cost_usd"] for row in again} == {
        key: usd for key, usd in charged.items() if counts[key[0]] > 1
    }
    in_vain = warehouse.query(spend_sql.charged_in_vain(with_history=with_history), api_origin=ORIGIN)
    assert {(row["generation_id"], row["attempt"]): row["cost_usd"] for row in in_vain} == {
        key: usd for key, usd in charged.items() if key[0] not in held
    }


@given(books())
def test_different_costs_are_known_to_both_ledger_and_history(
    warehouse: Warehouse, books: tuple[list[Attempt], list[Request]]
) -> None:
    attempts, requests = books
    warehouse.fill([*attempts, *requests])
    told = {each.request_id: each.cost_usd for each in requests}
    expected = {
        each.request_id
        for each in attempts
        if each.api_origin == ORIGIN and each.cost_usd is not None
        and (each.cost_usd > 0 if each.request_id not in told else told[each.request_id] not in {None, each.cost_usd})
    }  # fmt: skip
    rows = warehouse.query(spend_sql.DIFFERENT, api_origin=ORIGIN)
    assert {row["request_id"] for row in rows} == expected


@given(books())
def test_the_charges_add_up_to_the_history_and_to_what_the_ledger_has_for_it(
    warehouse: Warehouse, books: tuple[list[Attempt], list[Request]]
) -> None:
    attempts, requests = books
    warehouse.fill([*attempts, *requests])
    rows = warehouse.query(spend_sql.CHARGES, api_origin=ORIGIN)
    own = [each for each in requests if each.api_origin == ORIGIN]
    ledger = {each.request_id: each.cost_usd for each in attempts}
    assert sum(row["cost_usd"] or 0 for row in rows) == sum(each.cost_usd or 0 for each in own)
    assert sum(row["ledger_cost_usd"] or 0 for row in rows) == sum(ledger.get(each.request_id) or 0 for each in own)


def test_balances_come_in_order_of_time_and_of_one_account(warehouse: Warehouse) -> None:
    looks = [Balance(observed_at=NOON + timedelta(hours=hour), balance_usd=Decimal(hour)) for hour in (3, 1, 2)]
    warehouse.fill([*looks, replace(looks[0], api_origin=OTHER)])
    rows = warehouse.query(spend_sql.BALANCES, api_origin=ORIGIN)
    assert [row["balance_usd"] for row in rows] == [1, 2, 3]


def test_the_first_intent_is_that_of_the_account(warehouse: Warehouse) -> None:
    first = Attempt(generation_id="g", intent_at=NOON)
    earlier = replace(first, generation_id="h", intent_at=NOON - timedelta(days=9), api_origin=OTHER)
    warehouse.fill([first, earlier])
    assert warehouse.query(spend_sql.FIRST_INTENT, api_origin=ORIGIN) == [{"first_at": NOON}]
    assert warehouse.query(spend_sql.FIRST_INTENT, api_origin="https://elsewhere") == [{"first_at": None}]
