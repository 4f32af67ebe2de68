"""What sensors ask of the ledger: sums that are right, from an index, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from lab.ledger import NOON, Book
from sqlalchemy import insert
from test_query_plans import plans

from segmind_dagster.ledger import leases, reads, sensor_reads
from segmind_dagster.ledger.schema import BALANCE_KEY, META

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from segmind_dagster.ledger import Ledger

FAILED = {"server_error", "job_failed"}
UNCOUNTED = {"no_credits"}
LATER = NOON + timedelta(hours=1)
WEEK = timedelta(days=7)


def open_work(book: Book) -> list[sensor_reads.OpenWork]:
    return book.ledger.read(sensor_reads.open_work, failed_kinds=FAILED, uncounted_kinds=UNCOUNTED)


def loose(book: Book) -> list[sensor_reads.Loose]:
    return book.ledger.read(sensor_reads.loose, now=NOON, first_look=timedelta(minutes=1), kept=WEEK)


def stories(book: Book) -> set[tuple[str, str, str, str | None, int, int]]:
    return {
        (each.prompt_set, each.resource, each.state, each.failure_kind, each.runs, each.generations)
        for each in open_work(book)
    }


def test_an_empty_ledger_has_nothing_open(book: Book) -> None:
    assert open_work(book) == []
    assert book.ledger.read(sensor_reads.held) == []
    assert loose(book) == []
    assert book.ledger.read(sensor_reads.sets_out_of_hand, since=NOON) == []
    assert book.ledger.read(sensor_reads.asked_for, "set") == frozenset()
    assert book.ledger.read(sensor_reads.standing, "set") == {}
    assert book.ledger.read(sensor_reads.leases, now=NOON, run_ids=[]) == []
    assert book.ledger.read(sensor_reads.last_success, ["m"]) is None
    assert book.ledger.read(sensor_reads.balance) is None


def test_open_work_is_summed_by_set_model_and_failures(book: Book) -> None:
    book.plan("a", "b", "c", "d", "e", "f")
    book.failed(book.claim("b"))
    book.failed(book.claim("c"), failure_kind="job_failed")
    book.failed(book.claim("d"), failure_kind="job_failed")
    book.failed(book.claim("e"), failure_kind="invalid_request")
    book.succeeded(book.submitted(book.claim("f")))
    assert stories(book) == {
        ("set", "flux", "planned", None, 0, 1),
        ("set", "flux", "failed", "server_error", 1, 1),
        ("set", "flux", "failed", "job_failed", 1, 2),
    }


def test_failed_runs_are_counted_not_posts(book: Book) -> None:
    book.plan("a")
    for owner in ("one", "one", "two"):
        book.failed(book.claim("a", owner), target="planned")
    book.failed(book.claim("a", "three"), target="planned", failure_kind="no_credits")
    assert stories(book) == {("set", "flux", "planned", "no_credits", 2, 1)}
    known = book.ledger.read(reads.snapshot, ["a", "b"], is_alive=lambda *_: False, uncounted_kinds=UNCOUNTED)
    assert {generation_id: record.failed_runs for generation_id, record in known.items()} == {"a": 2}


def test_the_last_time_is_that_of_the_latest(book: Book) -> None:
    book.plan("a", "b")
    book.failed(book.claim("a"))
    book.failed(book.claim("b"), now=LATER)
    assert [each.last_at for each in open_work(book)] == [LATER]


def test_a_shared_generation_is_open_in_each_current_set(book: Book) -> None:
    book.plan("a", prompt_set="one")
    book.plan("a", prompt_set="two")
    book.plan("a", prompt_set="three")
    book.plan("b", prompt_set="three")
    assert {each.prompt_set for each in open_work(book)} == {"one", "two", "three"}
    assert {(each.prompt_set, each.generations) for each in open_work(book)} == {("one", 1), ("two", 1), ("three", 1)}
    assert book.ledger.read(sensor_reads.asked_for, "three") == {"b"}


def test_generations_owned_by_runs_are_counted_by_run(book: Book) -> None:
    book.plan("a", "b", "c", "d", "e")
    book.submitted(book.claim("a"))
    book.unknown(book.claim("b", "other"))
    book.claim("c", "other", now=LATER)
    book.failed(book.submitted(book.claim("d")), failure_kind="expired", cost_usd=Decimal("0.01"))
    book.succeeded(book.submitted(book.claim("e")))
    assert book.ledger.read(sensor_reads.held) == [
        sensor_reads.Held(owner="me", generations=1, last_at=NOON),
        sensor_reads.Held(owner="other", generations=2, last_at=LATER),
    ]


def test_the_sets_of_unstored_generations_include_earlier_ones(book: Book) -> None:
    book.plan("a", prompt_set="left it out since")
    book.plan("z", prompt_set="left it out since")
    book.plan("a", prompt_set="sent")
    book.submitted(book.claim("a"))
    book.plan("b", prompt_set="damaged")
    book.failed(book.submitted(book.claim("b")), failure_kind="expired", cost_usd=Decimal("0.01"))
    for key, state in (("c", "planned"), ("d", "succeeded"), ("e", "failed")):
        book.in_state(key, state)
    assert book.ledger.read(sensor_reads.sets_out_of_hand, since=NOON) == [
        "damaged", "left it out since", "sent",
    ]  # fmt: skip
    assert book.ledger.read(sensor_reads.sets_out_of_hand, since=LATER) == ["left it out since", "sent"]


def test_the_standing_of_a_set_counts_its_current_generations(book: Book) -> None:
    book.plan("gone")
    book.plan("a", "b", "c")
    book.succeeded(book.submitted(book.claim("a")))
    book.failed(book.claim("b"))
    book.plan("d", resource="sticker")
    assert book.ledger.read(sensor_reads.standing, "set") == {
        "flux": Counter({"succeeded": 1, "failed": 1, "planned": 1}),
        "sticker": Counter({"planned": 1}),
    }
    assert book.ledger.read(sensor_reads.last_success, ["other", "fast-flux-schnell"]) == NOON


def test_leases_include_active_and_requested_ones(book: Book) -> None:
    for owner, until in (("old", NOON), ("asked", NOON), ("living", LATER)):
        book.ledger.write(
            leases.record_lease, owner=owner, run_id=f"run-{owner}", process=leases.Process("p", 1, None), at_s=0,
            now=NOON, lease_s=(until - NOON).total_seconds(),
        )  # fmt: skip
    for owner in ("old", "asked"):
        book.ledger.write(leases.end_lease, owner=owner, now=NOON)
    found = book.ledger.read(sensor_reads.leases, now=NOON, run_ids=["run-asked"])
    assert {each.owner for each in found} == {"asked", "living"}


@pytest.mark.parametrize(
    "text", ["", "null", "[]", '{"balance_usd": "much"}', '{"balance_usd": "1", "observed_at": "yesterday"}']
)
def test_a_balance_that_cannot_be_read_is_none(book: Book, text: str) -> None:
    book.ledger.write(lambda connection: connection.execute(insert(META), {"key": BALANCE_KEY, "value": text}))
    assert book.ledger.read(sensor_reads.balance) is None


def test_a_balance_is_read_as_it_was_written(book: Book) -> None:
    text = f'{{"balance_usd": "12.30", "observed_at": "{NOON.isoformat()}"}}'
    book.ledger.write(lambda connection: connection.execute(insert(META), {"key": BALANCE_KEY, "value": text}))
    assert book.ledger.read(sensor_reads.balance) == sensor_reads.Balance(
        balance_usd=Decimal("12.30"), observed_at=NOON
    )


QUESTIONS: dict[str, tuple[Callable[[Connection], Any], set[str]]] = {
    "open_work": (
        lambda connection: sensor_reads.open_work(connection, failed_kinds=FAILED, uncounted_kinds=UNCOUNTED),
        {"generations_open", "set_generations_by_generation", "attempts_failed"},
    ),
    "held": (sensor_reads.held, {"generations_open"}),
    "loose": (
        lambda connection: sensor_reads.loose(connection, now=NOON, first_look=timedelta(minutes=1), kept=WEEK),
        {"generations_open"},
    ),
    "sets_out_of_hand": (
        lambda connection: sensor_reads.sets_out_of_hand(connection, since=NOON),
        {"generations_open", "set_generations_by_generation"},
    ),
    "leases": (
        lambda connection: sensor_reads.leases(connection, now=NOON, run_ids=["a", "b"]),
        {"runs_by_run", "runs_by_lease"},
    ),
    "asked_for": (lambda connection: sensor_reads.asked_for(connection, "set"), {"sqlite_autoindex_set_generations_1"}),
    "standing": (
        lambda connection: sensor_reads.standing(connection, "set"),
        {"sqlite_autoindex_set_generations_1", "sqlite_autoindex_generations_1"},
    ),
    "last_success": (lambda connection: sensor_reads.last_success(connection, ["m"]), {"attempts_by_model"}),
    "balance": (sensor_reads.balance, {"sqlite_autoindex_meta_1"}),
}


@pytest.mark.parametrize(("question", "indexes"), QUESTIONS.values(), ids=QUESTIONS)
def test_no_query_scans_every_generation(
    ledger: Ledger, question: Callable[[Connection], Any], indexes: set[str]
) -> None:
    steps = plans(ledger, question)
    # what is summed is read again from the answer of the inner question
    tables = ("generations", "set_generations", "attempts", "runs", "meta")
    assert not [step for step in steps if step.startswith("SCAN") and step.split()[1] in tables]
    assert {index for index in indexes if any(f"INDEX {index}" in step for step in steps)} == indexes


@pytest.mark.parametrize("question", ["open_work", "held", "loose"])
def test_open_work_is_answered_from_the_index_alone(ledger: Ledger, question: str) -> None:
    steps = plans(ledger, QUESTIONS[question][0])
    assert not [step for step in steps if "INDEX" in step and "COVERING" not in step]
