"""What the checks ask of the ledger: rows of one set and model, exact money, answered from an index."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from lab.ledger import CENT, NOON, ORIGIN, Book
from sqlalchemy import insert
from test_query_plans import plans

from segmind_dagster.ledger import check_reads, open_ledger
from segmind_dagster.ledger.schema import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.lifecycle.generation import Generation

OF_SET = {"resource": "flux", "prompt_set": "set"}
STATES = ("planned", "submitting", "submitted", "unknown", "failed", "succeeded")


def open_rows(book: Book, *, alive: bool = False, **options: Any) -> tuple[int, list[Generation]]:
    usual = {**OF_SET, "is_alive": lambda *_: alive, "uncounted_kinds": {"no_credits"}}
    return book.ledger.read(check_reads.open_rows, **{**usual, **options})


def in_every_state(book: Book) -> None:
    for state in STATES:
        book.in_state(f"g-{state}", state)
    # a set asks for what it was entered with last
    book.plan(*(f"g-{state}" for state in STATES))


def test_current_generations_are_counted_and_unstored_ones_listed(book: Book) -> None:
    in_every_state(book)
    asked_for, rows = open_rows(book)
    assert asked_for == 6
    assert {row.state for row in rows} == set(STATES) - {"succeeded"}
    assert not any(row.is_owner_alive for row in rows)


def test_only_generations_in_progress_can_have_a_live_owner(book: Book) -> None:
    in_every_state(book)
    _, rows = open_rows(book, alive=True)
    assert {row.state for row in rows if row.is_owner_alive} == {"submitting", "submitted", "unknown"}


def test_removed_prompts_are_not_open_but_their_files_are_checked(book: Book) -> None:
    book.in_state("old-failed", "failed")
    book.plan("old-stored")
    book.succeeded(book.submitted(book.claim("old-stored")), uri="outputs/flux/old-stored.png")
    book.plan("new")
    asked_for, rows = open_rows(book)
    assert (asked_for, [row.generation_id for row in rows]) == (1, ["new"])
    stored = book.ledger.read(check_reads.stored_rows, **OF_SET)
    assert [(row.uri, row.sha256, row.size_bytes) for row in stored] == [("outputs/flux/old-stored.png", "stored", 10)]


def test_failed_runs_count_once_and_stopped_runs_do_not_count(book: Book) -> None:
    book.plan("g")
    for owner, kind in (("one", "server_error"), ("one", "server_error"), ("two", "no_credits"), ("six", "job_failed")):
        book.failed(book.claim("g", owner), target="planned", failure_kind=kind)
    _, (row,) = open_rows(book)
    assert row.failed_runs == 2
    assert row.sent_at == NOON


def test_other_sets_and_models_do_not_count(book: Book) -> None:
    book.plan("elsewhere", prompt_set="other")
    book.plan("another-model", resource="dalle")
    assert open_rows(book) == (0, [])
    assert book.ledger.read(check_reads.stored_rows, **OF_SET) == []
    assert book.ledger.read(check_reads.charged_for, **OF_SET) == 0


def test_a_second_charge_is_found_and_a_free_failure_before_a_success_is_not_one(book: Book) -> None:
    book.plan("g", "fine")
    for generation_id in ("g", "fine"):
        book.failed(book.claim(generation_id), target="planned")
        book.succeeded(book.submitted(book.claim(generation_id)))
    assert book.ledger.read(check_reads.charged_again, **OF_SET) == []
    again = {**book.rows(ATTEMPTS)[-1], "generation_id": "g", "attempt": 3, "request_id": "x", "cost_usd": CENT}
    book.ledger.write(lambda connection: connection.execute(insert(ATTEMPTS), again))
    charges = book.ledger.read(check_reads.charged_again, **OF_SET)
    assert [(row["generation_id"], row["attempt"], row["cost_usd"]) for row in charges] == [
        ("g", 2, Decimal("0.0055")),
        ("g", 3, CENT),
    ]
    assert book.ledger.read(check_reads.charged_for, **OF_SET) == Decimal("0.011") + CENT


def test_submissions_after_a_time_are_counted_with_their_cost_or_reservation(book: Book) -> None:
    hour = timedelta(hours=1)
    book.plan("early", "late", "free", "open")
    book.succeeded(book.submitted(book.claim("early", now=NOON - hour)))
    book.succeeded(book.submitted(book.claim("late", now=NOON + hour)))
    book.failed(book.claim("free", now=NOON + hour))
    book.submitted(book.claim("open", now=NOON + hour))

    def asked(since: datetime | None, until: datetime | None) -> tuple[bool, int, Decimal]:
        return book.ledger.read(check_reads.charged_by_then, since=since, until=until)

    cost = Decimal("0.0055")
    assert asked(NOON - 2 * hour, NOON) == (True, 2, cost + CENT)
    assert asked(NOON - hour / 2, NOON) == (False, 2, cost + CENT)
    assert asked(NOON, NOON + 2 * hour) == (True, 0, 0)
    assert asked(None, None) == (False, 3, 2 * cost + CENT)


def test_waiting_rows_are_unstored_and_damaged_outputs_oldest_first(book: Book) -> None:
    book.plan("damaged", "lost", "refused", "on-its-way")
    damaged = book.submitted(book.claim("damaged"))
    book.unknown(book.claim("lost", now=NOON - timedelta(days=2)))
    book.failed(book.claim("refused"), failure_kind="invalid_request")
    book.submitted(book.claim("on-its-way"))
    book.failed(damaged, failure_kind="bad_output", cost_usd=CENT * 2)
    book.in_state("stored", "succeeded")
    book.plan("lost", prompt_set="shares-it")
    rows = book.ledger.read(check_reads.waiting_rows, resource="flux")
    assert {(row.generation_id, row.state, row.cost_usd) for row in rows} == {
        ("lost", "unknown", CENT),
        ("damaged", "failed", CENT * 2),
        ("on-its-way", "submitted", CENT),
    }
    assert (rows[0].generation_id, rows[0].request_id, rows[0].sent_at) == ("lost", None, NOON - timedelta(days=2))


QUESTIONS: dict[str, tuple[Callable[[Connection], Any], set[str]]] = {
    "open_rows": (
        lambda connection: check_reads.open_rows(
            connection, **OF_SET, is_alive=lambda *_: False, uncounted_kinds={"no_credits"}
        ),
        {"sqlite_autoindex_set_generations_1", "sqlite_autoindex_generations_1", "attempts_failed"},
    ),
    "stored_rows": (
        lambda connection: check_reads.stored_rows(connection, **OF_SET),
        {"sqlite_autoindex_set_generations_1", "sqlite_autoindex_generations_1"},
    ),
    "charged_again": (
        lambda connection: check_reads.charged_again(connection, **OF_SET),
        {"sqlite_autoindex_set_generations_1", "sqlite_autoindex_attempts_1"},
    ),
    "charged_by_then": (
        lambda connection: check_reads.charged_by_then(connection, since=NOON - timedelta(days=1), until=NOON),
        {"attempts_by_day"},
    ),
    "charged_for": (lambda connection: check_reads.charged_for(connection, **OF_SET), {"attempts_by_set"}),
    "waiting_rows": (
        lambda connection: check_reads.waiting_rows(connection, resource="flux"),
        {"generations_open", "sqlite_autoindex_generations_1", "sqlite_autoindex_attempts_1"},
    ),
}


@pytest.mark.parametrize(("question", "indexes"), QUESTIONS.values(), ids=QUESTIONS)
def test_a_check_query_uses_its_index(ledger: Ledger, question: Callable[[Connection], Any], indexes: set[str]) -> None:
    steps = plans(ledger, question)
    assert not [step for step in steps if step.startswith("SCAN")]
    assert {index for index in indexes if any(f"INDEX {index} " in step for step in steps)} == indexes


@pytest.mark.postgres
def test_postgresql_gives_the_same_answers(book: Book, postgres_url: str) -> None:
    with closing(open_ledger(postgres_url, api_origin=ORIGIN, holds_outputs=lambda: None)) as other:
        for each in (book, Book(other)):
            in_every_state(each)
        for question, _ in QUESTIONS.values():
            assert other.read(question) == book.ledger.read(question)
