"""A small chaos run, and that its checks notice what they are there for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from bench.chaos.__main__ import run
from bench.chaos.books import Asked, Charge, Ledger, Provider, Row, Warehouse
from bench.chaos.claims import CLAIMS, Books, broken_claims
from bench.chaos.storm import draw_kills
from bench.chaos.world import DEALT, Options, fault_rates, request_rates
from segmind_dagster.sandbox import REQUEST_FAULTS

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Options(
    generations=120,
    kills=3,
    runs=2,
    seed=286,
    time_scale=0.05,
    client_timeout_s=1.5,
    settling_time_s=2.0,
    record_ttl_s=12.0,
    limit_s=200.0,
)


@pytest.mark.kill
def test_killed_runs_with_faults_pay_once_and_lose_nothing(tmp_path: Path) -> None:
    outcome = run(SMALL, tmp_path, say=print)
    assert outcome.broken == ()
    assert sum(outcome.storm.kills.values()) == SMALL.kills
    assert outcome.storm.held > 0
    books = outcome.books
    assert len(books.asked) == len(books.provider.charges) == len(books.outputs) == SMALL.generations
    assert any(len(each.prompt_sets) > 1 for each in books.asked)
    assert len(books.provider.dealt) >= 10
    assert books.provider.faulted / books.provider.posts == pytest.approx(SMALL.fault_rate, abs=0.1)
    spoilt = sum(kinds.total() for kinds in books.provider.spoilt.values())
    assert spoilt / sum(books.provider.asked.values()) == pytest.approx(SMALL.fault_rate, abs=0.1)
    assert {"status", "result", "output"} <= set(books.provider.spoilt)


def whole_books() -> Books:
    """Two generations with the same body and one of another, bought once each."""
    wires = {"a": ("flux", "1"), "b": ("flux", "1"), "c": ("flux", "2")}
    cost = Decimal("0.000000001")
    rows = tuple(Row("one", key, "succeeded", f"r{key}", f"/{key}", f"d{key}", cost) for key in wires)
    return Books(
        asked=tuple(
            Asked(generation_id=key, wire=wire, resource="flux", prompt_sets=frozenset({"one"}))
            for key, wire in wires.items()
        ),
        provider=Provider(
            charges=tuple(Charge(request_id=f"r{key}", wire=wire, cost_usd=cost) for key, wire in wires.items()),
            charged_usd=3 * cost,
            posts=4,
            refused_by_rate=0,
            running=0,
            dealt=Counter(),
            faulted=0,
        ),
        ledger=Ledger(
            states=dict.fromkeys(wires, "succeeded"),
            request_ids={key: f"r{key}" for key in wires},
            charged_usd=3 * cost,
            attempts=4,
        ),
        warehouse=Warehouse(rows=rows, charged_usd=3 * cost, attempts=4, charges=3),
        outputs={f"/{key}": f"d{key}" for key in wires},
    )


def broken(books: Books) -> set[str]:
    return {problem.partition(":")[0] for problem in broken_claims(books)}


def test_whole_books_break_no_claim() -> None:
    assert broken_claims(whole_books()) == ()


def test_a_second_charge_for_a_body_is_noticed() -> None:
    books = whole_books()
    again = replace(books.provider.charges[-1], request_id="another")
    provider = replace(books.provider, charges=(*books.provider.charges, again))
    assert broken(replace(books, provider=provider)) == {"charged exactly once", "the money agrees"}


def test_a_job_that_is_still_running_is_noticed() -> None:
    books = whole_books()
    assert broken(replace(books, provider=replace(books.provider, running=1))) == {"charged exactly once"}


def test_a_missing_nano_dollar_in_the_ledger_is_noticed() -> None:
    books = whole_books()
    ledger = replace(books.ledger, charged_usd=books.ledger.charged_usd - Decimal("0.000000001"))
    assert broken(replace(books, ledger=ledger)) == {"the money agrees"}


def test_an_unrecorded_post_is_noticed() -> None:
    books = whole_books()
    assert broken(replace(books, provider=replace(books.provider, posts=5))) == {"every POST is on record"}


def test_a_generation_that_stays_unknown_is_noticed() -> None:
    books = whole_books()
    ledger = replace(books.ledger, states={**books.ledger.states, "c": "unknown"})
    assert broken(replace(books, ledger=ledger)) == {"nothing is unknown"}


def test_a_generation_that_took_the_request_of_another_body_is_noticed() -> None:
    books = whole_books()
    crossed = {"a": "rc", "b": "rb", "c": "ra"}
    rows = tuple(replace(row, request_id=crossed[row.generation_id]) for row in books.warehouse.rows)
    books = replace(
        books,
        ledger=replace(books.ledger, request_ids=crossed),
        warehouse=replace(books.warehouse, rows=rows),
    )
    assert broken(books) == {"nothing is unknown"}


def test_a_missing_changed_or_unexpected_file_is_noticed() -> None:
    books = whole_books()
    for outputs in (
        {**books.outputs, "/a": "other bytes"},
        {uri: digest for uri, digest in books.outputs.items() if uri != "/a"},
        {**books.outputs, "/z": "dz"},
    ):
        assert broken(replace(books, outputs=outputs)) == {"everything is stored"}


def test_a_row_that_was_never_loaded_or_loaded_twice_is_noticed() -> None:
    books = whole_books()
    free = replace(books.warehouse.rows[0], cost_usd=Decimal(0))
    for rows in (books.warehouse.rows[1:], (*books.warehouse.rows, free)):
        found = broken(replace(books, warehouse=replace(books.warehouse, rows=rows)))
        assert "everything is loaded" in found


def test_empty_books_break_every_claim() -> None:
    books = whole_books()
    empty = replace(
        books,
        provider=replace(books.provider, charges=()),
        ledger=Ledger(states={}, request_ids={}, charged_usd=Decimal(0), attempts=0),
        warehouse=Warehouse(rows=(), charged_usd=Decimal(0), attempts=0, charges=0),
        outputs={},
    )
    assert broken(empty) == set(CLAIMS)


@pytest.mark.parametrize("generations", [20, 2000])
def test_every_kind_of_fault_occurs_at_the_configured_total_rate(generations: int) -> None:
    rates = fault_rates(0.2, generations)
    assert set(rates) == set(DEALT)
    spared = 1.0
    for rate in rates.values():
        assert 0 < rate < 0.2
        spared *= 1 - rate
    assert spared == pytest.approx(0.8)


def test_other_requests_fail_as_often_as_submissions() -> None:
    rates = request_rates(0.2)
    assert set(rates) == set(REQUEST_FAULTS)
    spared = 1.0
    for kind, rate in rates.items():
        assert 0 < rate < 0.2
        spared *= 1 if kind == "body_as_string" else 1 - rate
    assert spared == pytest.approx(0.8)


def test_fault_and_request_kinds_without_a_fault_are_named() -> None:
    provider = replace(
        whole_books().provider,
        dealt=Counter(kind for kind in DEALT if kind != "teapot"),
        asked={"status": 9, "credits": 1},
        spoilt={"status": Counter(kind for kind in REQUEST_FAULTS if kind != "get_reset")},
    )
    assert provider.undealt == ["teapot", "get_reset", "credits"]


def test_the_same_seed_draws_the_same_kills() -> None:
    from random import Random

    first, second = (draw_kills(SMALL, Random(3)) for _ in range(2))
    assert first == second
    assert len(first) == SMALL.kills
