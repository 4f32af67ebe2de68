"""What prompt sets ask for, as it is registered, and what is read of generations, attempts and money."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, get_args

from lab.ledger import CENT, DAY, NOON, Book, generation

from segmind_dagster.ledger import Claim, State, entries, reads
from segmind_dagster.ledger.schema import GENERATIONS

if TYPE_CHECKING:
    from segmind_dagster.ledger import Ledger


def current_of(ledger: Ledger, prompt_set: str, resource: str = "flux") -> dict[str, bool]:
    with ledger.reading() as connection:
        rows = list(reads.set_rows(connection, resource=resource, prompt_sets=[prompt_set]))
    return {row["generation_id"]: row["is_current"] for row in rows}


def test_prompts_no_longer_in_a_set_stay_and_are_not_current(book: Book) -> None:
    book.plan("a", "b", "c")
    book.in_state("b", "planned")
    assert current_of(book.ledger, "set") == {"a": False, "b": True, "c": False}
    book.plan("c", "b")
    assert current_of(book.ledger, "set") == {"a": False, "b": True, "c": True}


def test_an_empty_set_has_no_current_generations(book: Book) -> None:
    book.plan("a", "b")
    book.plan()
    assert current_of(book.ledger, "set") == {"a": False, "b": False}


def test_registering_one_model_of_a_set_keeps_the_others(book: Book) -> None:
    book.plan("a", resource="flux")
    book.plan("b", resource="sticker")
    book.plan(resource="sticker")
    assert current_of(book.ledger, "set", "flux") == {"a": True}
    assert current_of(book.ledger, "set", "sticker") == {"b": False}


def test_registering_again_does_not_touch_what_was_bought(book: Book) -> None:
    book.in_state("g", "succeeded")
    (before,) = book.rows(GENERATIONS)
    book.plan("g", prompt="another text", body={"prompt": "x"})
    assert book.rows(GENERATIONS) == [before]


def test_the_first_request_time_of_a_set_never_changes(book: Book) -> None:
    book.plan("g", now=NOON)
    book.plan(now=NOON + timedelta(days=1))
    book.plan("g", now=NOON + timedelta(days=2))
    with book.ledger.reading() as connection:
        (row,) = reads.set_rows(connection, resource="flux", prompt_sets=["set"])
    assert (row["is_current"], row["asked_at"]) == (True, NOON)


def test_a_generation_of_two_sets_is_one_and_reused_by_the_second(book: Book) -> None:
    book.plan("g", prompt_set="first")
    book.succeeded(book.submitted(book.claim("g", prompt_set="first")))
    book.plan("g", prompt_set="second")
    with book.ledger.reading() as connection:
        rows = list(reads.set_rows(connection, resource="flux", prompt_sets=None))
    assert {row["set_key"]: row["is_reused"] for row in rows} == {"first": False, "second": True}
    assert len(book.rows(GENERATIONS)) == 1


def test_rows_come_in_the_order_of_the_set(book: Book) -> None:
    book.plan("c", "a", "b")
    assert list(current_of(book.ledger, "set")) == ["c", "a", "b"]


def test_money_is_summed_over_attempts_by_run_day_and_set(book: Book) -> None:
    book.plan("a", "b", "c", "d")
    book.succeeded(book.submitted(book.claim("a")))
    book.claim("b", run_id="other", prompt_set="other")
    book.failed(book.claim("c"))
    book.claim("d", now=NOON + timedelta(days=1))
    spent = book.ledger.read(reads.spent, run_id="run", day=DAY, prompt_set="set")
    assert spent.run_usd == spent.set_usd == Decimal("0.0055") + CENT
    assert spent.day_usd == Decimal("0.0055") + CENT
    nothing = book.ledger.read(reads.spent, run_id=None, day="2020-01-01", prompt_set="unheard of")
    assert (nothing.run_usd, nothing.day_usd, nothing.set_usd) == (0, 0, 0)


def test_recent_costs_and_latencies_of_a_model_are_those_that_were_reported(book: Book) -> None:
    book.plan("a", "b", "c")
    book.succeeded(book.submitted(book.claim("a")), completed_at=NOON)
    book.succeeded(book.submitted(book.claim("b")), cost_usd=None, latency_ms=900, completed_at=NOON)
    book.failed(book.claim("c"))
    costs, latencies = book.ledger.read(reads.observed, ["fast-flux-schnell", "never used"])["fast-flux-schnell"]
    assert (costs, sorted(latencies)) == ([Decimal("0.0055")], [900, 2500])


def test_unfinished_generations_are_listed_oldest_first_with_their_body(book: Book) -> None:
    for state in ("planned", "succeeded", "failed"):
        book.in_state(state, state)
    book.plan("youngest", "oldest", "middle")
    for age, generation_id in enumerate(("youngest", "middle", "oldest")):
        book.claim(generation_id, now=NOON - timedelta(hours=age))
    book.submitted(Claim("middle", 1, "me"))
    records = book.ledger.read(reads.unfinished, is_alive=lambda *_: False)
    assert [record.generation_id for record in records] == ["oldest", "middle", "youngest"]
    assert all(record.body == {"prompt": "a pear"} for record in records)


def test_totals_count_generations_and_money_by_state(book: Book) -> None:
    # what is planned is counted as long as its set asks for it: the set's last word is `planned`
    for state in sorted(get_args(State), key=lambda state: state == "planned"):
        book.in_state(state, state)
    totals = book.ledger.read(reads.totals)
    assert {state: count for state, (count, _) in totals.items()} == dict.fromkeys(get_args(State), 1)
    assert totals["succeeded"][1] == Decimal("0.0055")


def test_attempts_are_listed_for_the_sets_that_hold_their_generation(book: Book) -> None:
    book.plan("g", prompt_set="first")
    book.succeeded(book.submitted(book.claim("g", prompt_set="first")))
    book.plan("g", prompt_set="second")
    with book.ledger.reading() as connection:
        for sets, expected in ((None, 1), (["first"], 1), (["second"], 1), (["third"], 0)):
            rows = list(reads.attempt_rows(connection, resources=["flux"], prompt_sets=sets))
            assert len(rows) == expected


def test_the_ledger_records_upload_urls(book: Book) -> None:
    assert book.ledger.read(reads.upload_url, "digest") is None
    for url in ("https://a/1", "https://a/2"):
        book.ledger.write(entries.record_upload, sha256="digest", url=url, now=NOON)
        assert book.ledger.read(reads.upload_url, "digest") == url


def test_a_large_set_is_registered_and_read_in_chunks(book: Book) -> None:
    ids = [f"g-{number}" for number in range(1203)]
    rows = [generation(generation_id) for generation_id in ids]
    book.ledger.write(entries.register_set, prompt_set="set", resource="flux", generations=rows, now=NOON)
    known = book.ledger.read(reads.snapshot, [*ids, "unheard of"], is_alive=lambda *_: False)
    assert set(known) == set(ids)
