"""Caps at the moment of the claim: of a set, a run and a day, each with its own running total."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given
from hypothesis import strategies as st
from lab.ledger import CENT, DAY, NOON, ORIGIN, Book
from sqlalchemy import create_engine, select

from segmind_dagster.errors import BudgetError, LostOwnershipError
from segmind_dagster.ledger import Caps, migrations, open_ledger, reads
from segmind_dagster.ledger.schema import ATTEMPTS, SET_GENERATIONS

if TYPE_CHECKING:
    from pathlib import Path

    from segmind_dagster.ledger import Ledger

NAMES = {"set": "set", "run": "run", "day": DAY}
REMEDIES = {"set": "`budget_usd`", "run": "SEGMIND_RUN_BUDGET_USD", "day": "SEGMIND_DAILY_BUDGET_USD"}


def opened(path: Path) -> Ledger:
    return open_ledger(f"sqlite:///{path}", api_origin=ORIGIN, holds_outputs=lambda: None)


@pytest.mark.parametrize("scope", NAMES)
def test_every_cap_refuses_the_claim_that_would_exceed_it(book: Book, scope: str) -> None:
    book.plan("a", "b", "c")
    book.priced()
    caps = Caps(**{f"{scope}_usd": Decimal("0.025")})
    book.claim("a", caps=caps)
    book.claim("b", caps=caps)
    before = book.everything()
    with pytest.raises(BudgetError) as raised:
        book.claim("c", caps=caps)
    assert (raised.value.scope, raised.value.is_final, raised.value.awaits_others) == (scope, False, False)
    for text in (f"The {scope} cap of $0.025", "$0.0000 is spent", "$0.0200 reserved", "$0.0100", REMEDIES[scope]):
        assert text in str(raised.value)
    assert book.everything() == before


def test_a_refused_claim_waits_only_for_what_other_runs_have_in_progress(book: Book) -> None:
    book.plan("a", "b")
    book.priced()
    caps = Caps(day_usd=CENT)
    book.claim("a", caps=caps, run_id="another")
    with pytest.raises(BudgetError) as raised:
        book.claim("b", caps=caps)
    assert raised.value.awaits_others


@pytest.mark.parametrize(
    ("scope", "other"),
    [("set", {"prompt_set": "another"}), ("run", {"run_id": "another"}), ("run", {"run_id": None, "owner": "you"})],
)
def test_a_cap_counts_only_its_own_scope(book: Book, scope: str, other: dict[str, str]) -> None:
    book.plan("a", "b")
    book.priced()
    caps = Caps(**{f"{scope}_usd": CENT})
    book.claim("a", caps=caps)
    book.claim("b", caps=caps, **other)
    assert book.committed_by(scope, NAMES[scope]) == CENT


def test_a_run_without_an_id_has_a_cap_of_its_own(book: Book) -> None:
    book.plan("a", "b")
    book.claim("a", run_id=None, caps=Caps(run_usd=CENT))
    with pytest.raises(BudgetError):
        book.claim("b", run_id=None, caps=Caps(run_usd=CENT))


def test_a_generation_taken_by_another_run_is_lost_and_not_over_budget(book: Book) -> None:
    book.plan("a")
    book.claim("a", caps=Caps(set_usd=CENT))
    with pytest.raises(LostOwnershipError):
        book.claim("a", "you", caps=Caps(set_usd=CENT))


def test_a_failure_free_of_charge_gives_its_reservation_back_to_every_cap(book: Book) -> None:
    book.plan("a")
    book.failed(book.claim("a"))
    assert {scope: book.committed_by(scope, name) for scope, name in NAMES.items()} == dict.fromkeys(NAMES, 0)


OUTCOMES = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), st.sampled_from(["x", None]), st.integers(0, 10**7)), max_size=6
)


@given(outcomes=OUTCOMES)
def test_the_running_totals_are_the_sums_over_attempts(
    tmp_path_factory: pytest.TempPathFactory, outcomes: list[tuple[str, str | None, int]]
) -> None:
    ledger = opened(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    book = Book(ledger)
    for number, (prompt_set, run_id, nano) in enumerate(outcomes):
        book.plan(f"g{number}", prompt_set=prompt_set)
        held = book.submitted(book.claim(f"g{number}", prompt_set=prompt_set, run_id=run_id))
        if nano % 3:
            book.succeeded(held, cost_usd=Decimal(nano) / 10**9)
    totals: dict[tuple[str, str], Decimal] = {}
    for row in book.rows(ATTEMPTS):
        usd = row["reserved_usd"] if row["cost_usd"] is None else row["cost_usd"]
        for name in (("set", row["prompt_set"]), ("run", row["run_id"] or row["owner"]), ("day", DAY)):
            totals[name] = totals.get(name, Decimal(0)) + usd
    assert {name: book.committed_by(*name) for name in totals} == totals
    ledger.close()


def of_the_first_version(path: Path) -> Path:
    """A ledger with the first tables, and what another one holds of their columns."""
    first = path.with_name("first.sqlite")
    engine = create_engine(f"sqlite:///{first}")
    config = Config()
    config.set_main_option("script_location", str(files(migrations)))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with sqlite3.connect(first) as connection:
        connection.execute("ATTACH ? AS later", (str(path),))
        for table in ("generations", "attempts", "set_generations", "runs", "meta"):
            names = ", ".join(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
            connection.execute(f"INSERT INTO {table} SELECT {names} FROM later.{table}")
        connection.execute("INSERT INTO days SELECT name, committed_usd FROM later.spending WHERE scope = 'day'")
    connection.close()
    return first


def test_a_ledger_of_the_first_version_keeps_what_was_spent(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = opened(path)
    book = Book(ledger)
    book.plan("a", "b")
    book.succeeded(book.submitted(book.claim("a")), cost_usd=Decimal("0.0055"))
    book.claim("b", run_id=None)
    ledger.close()
    path = of_the_first_version(path)
    ledger = opened(path)
    book = Book(ledger)
    assert book.committed_by("day", DAY) == Decimal("0.0155")
    assert book.committed_by("set", "set") == Decimal("0.0155")
    assert (book.committed_by("run", "run"), book.committed_by("run", "me")) == (Decimal("0.0055"), CENT)
    spent = ledger.read(reads.spent, run_id="run", day=DAY, prompt_set="set")
    assert (spent.run_usd, spent.day_usd, spent.set_usd) == (Decimal("0.0055"), Decimal("0.0155"), Decimal("0.0155"))
    # when it was sent stands for when it was asked for
    asked = ledger.read(lambda connection: list(connection.execute(select(SET_GENERATIONS.c.asked_at)).scalars()))
    assert asked == [NOON, NOON]
    ledger.close()
