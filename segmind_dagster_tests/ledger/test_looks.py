"""Looks for what was paid for: few, ever rarer, and none once the provider has forgotten it; summed in the database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.ledger import NOON, Book
from sqlalchemy import delete, insert, update

from segmind_dagster.ledger import sensor_reads
from segmind_dagster.ledger.schema import GENERATIONS
from segmind_dagster.lifecycle.next_step import FIRST_LOOK, KEPT

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

spans = st.timedeltas(timedelta(0), timedelta(days=10))


def loose(book: Book, now: datetime) -> dict[str, sensor_reads.Loose]:
    found = book.ledger.read(sensor_reads.loose, now=now, first_look=FIRST_LOOK, kept=KEPT)
    return {each.look: each for each in found}


def next_look(paid_at: datetime, looked_at: datetime) -> datetime:
    """The rule in words: as long again as it was waited for, and a minute at least."""
    return looked_at + max(FIRST_LOOK, looked_at - paid_at)


def let_go(book: Book, generation_id: str, *, paid_at: datetime, looked_at: datetime) -> None:
    book.submitted(book.claim(generation_id))
    values = {"owner": None, "submitted_at": paid_at, "updated_at": looked_at}
    row = GENERATIONS.c.generation_id == generation_id
    book.ledger.write(lambda connection: connection.execute(update(GENERATIONS).where(row).values(**values)))


@pytest.mark.parametrize(
    ("waited", "look", "at"),
    [
        (timedelta(0), "now", FIRST_LOOK),
        (timedelta(hours=3), "now", timedelta(hours=6)),
        (timedelta(hours=9), "later", timedelta(hours=18)),
        # a clock that went backwards only makes it wait the shortest time
        (timedelta(hours=-1), "now", timedelta(hours=-1) + FIRST_LOOK),
        (timedelta(days=4), "never", timedelta(days=8)),
    ],
)
def test_the_time_until_the_next_look_doubles(book: Book, waited: timedelta, look: str, at: timedelta) -> None:
    book.plan("g")
    let_go(book, "g", paid_at=NOON, looked_at=NOON + waited)
    (found,) = loose(book, NOON + timedelta(hours=12)).values()
    assert (found.look, found.generations, found.next_at) == (look, 1, NOON + at)
    assert (found.first_paid_at, found.last_looked_at) == (NOON, NOON + waited)


@pytest.mark.parametrize("tick", [timedelta(0), timedelta(minutes=1), timedelta(minutes=5)])
def test_looks_are_few_however_often_the_sensor_ticks(book: Book, tick: timedelta) -> None:
    book.plan("g")
    let_go(book, "g", paid_at=NOON, looked_at=NOON)
    looks, now = 0, NOON
    while (found := next(iter(loose(book, now).values()))).look != "never":
        assert found.next_at > now
        looks, now = looks + 1, found.next_at + tick
        assert loose(book, now)["now"].generations == 1
        book.ledger.write(lambda connection, at=now: connection.execute(update(GENERATIONS).values(updated_at=at)))
    assert 8 <= looks <= 15


def test_owned_generations_are_not_loose_and_paid_failures_are_until_they_expire(book: Book) -> None:
    for generation_id, state in (("a", "submitted"), ("b", "planned"), ("c", "succeeded"), ("d", "failed")):
        book.in_state(generation_id, state)
    book.plan("e")
    book.failed(book.submitted(book.claim("e")), failure_kind="expired")
    assert {look: each.generations for look, each in loose(book, NOON).items()} == {"later": 1}
    assert {look: each.generations for look, each in loose(book, NOON + FIRST_LOOK).items()} == {"now": 1}
    assert loose(book, NOON + KEPT) == {}


@given(ages=st.lists(st.tuples(spans, spans), max_size=30))
def test_the_sums_are_those_of_the_rule_for_each(book: Book, ages: list[tuple[timedelta, timedelta]]) -> None:
    times = [(NOON - age, NOON - age + waited) for age, waited in ages]
    common = {
        "model_slug": "m", "resource": "m", "prompt_set": "s", "state": "submitted", "attempts": 1, "prompt": "",
        "body": {}, "images": {}, "variables": {}, "sample": 0,
    }  # fmt: skip
    rows: list[dict[str, Any]] = [
        {**common, "generation_id": str(number), "submitted_at": paid_at, "updated_at": looked_at}
        for number, (paid_at, looked_at) in enumerate(times)
    ]

    def put(connection: Connection) -> None:
        connection.execute(delete(GENERATIONS))
        if rows:
            connection.execute(insert(GENERATIONS), rows)

    book.ledger.write(put)
    expected: dict[str, list[tuple[datetime, datetime]]] = {}
    for paid_at, looked_at in times:
        at = next_look(paid_at, looked_at)
        look = "never" if at > paid_at + KEPT else "later" if at > NOON else "now"
        expected.setdefault(look, []).append((paid_at, looked_at))
    assert loose(book, NOON) == {
        look: sensor_reads.Loose(
            look=look,  # type: ignore[arg-type]
            generations=len(each),
            next_at=min(next_look(*times) for times in each),
            first_paid_at=min(paid_at for paid_at, _ in each),
            last_looked_at=max(looked_at for _, looked_at in each),
        )
        for look, each in expected.items()
    }
