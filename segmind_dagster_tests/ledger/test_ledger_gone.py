"""A ledger file that disappears while it is open: nothing more is written, and the message says what to do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from lab.ledger import NOON, ORIGIN, Book

from segmind_dagster.errors import LedgerError, LedgerGoneError
from segmind_dagster.ledger import open_ledger, reads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from segmind_dagster.ledger import Ledger


@pytest.fixture
def path(tmp_path: Path, empty_ledger: Path) -> Path:
    (tmp_path / "data").mkdir()
    return shutil.copy(empty_ledger, tmp_path / "data" / "ledger.sqlite")


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{path}", api_origin=ORIGIN, holds_outputs=lambda: None)
    yield opened
    opened.close()


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.sqlite"))


def replace_by_a_copy(path: Path) -> None:
    copy = shutil.copy(path, path.with_name("copy.sqlite"))
    copy.replace(path)


def move_its_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def delete_what_is_written_ahead(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def delete_all(path: Path) -> None:
    for each in path.parent.iterdir():
        each.unlink()


GOING = [delete, move, replace_by_a_copy, move_its_folder, delete_what_is_written_ahead, delete_all]


@pytest.mark.parametrize("go", GOING)
def test_a_ledger_that_disappears_takes_no_more_writes_and_says_so(
    ledger: Ledger, path: Path, go: Callable[[Path], None]
) -> None:
    book = Book(ledger)
    book.plan("before")
    go(path)
    advice = r"disappeared.*Nothing more is submitted.*segmind-dagster rebuild"
    with pytest.raises(LedgerGoneError, match=advice) as said:
        book.plan("after")
    assert said.value.path == str(path)
    # an empty file in its place would pass for a new ledger
    assert go in {replace_by_a_copy, delete_what_is_written_ahead} or not path.exists()


@pytest.mark.parametrize("go", [delete, move, replace_by_a_copy, move_its_folder, delete_all])
def test_nothing_is_read_from_a_ledger_that_disappeared(ledger: Ledger, path: Path, go: Callable[[Path], None]) -> None:
    ledger.read(reads.totals)
    go(path)
    with pytest.raises(LedgerGoneError):
        ledger.read(reads.totals)


def test_a_ledger_that_was_gone_for_a_while_stays_refused_until_it_is_opened_again(ledger: Ledger, path: Path) -> None:
    book = Book(ledger)
    book.plan("before")
    away = path.with_name("away.sqlite")
    path.rename(away)
    with pytest.raises(LedgerGoneError):
        book.plan("meanwhile")
    away.rename(path)
    with pytest.raises(LedgerGoneError):
        book.plan("after")
    ledger.close()
    again = open_ledger(f"sqlite:///{path}", api_origin=ORIGIN, holds_outputs=lambda: None)
    assert set(again.read(reads.snapshot, ["before", "meanwhile", "after"], is_alive=lambda *_: False)) == {"before"}
    again.close()


def test_a_group_is_refused_as_a_whole_without_single_retries(ledger: Ledger, path: Path) -> None:
    path.unlink()
    asked = [ledger.writer.submit(lambda _connection: pytest.fail("it ran")) for _ in range(5)]
    assert all(isinstance(each.exception(10), LedgerError) for each in asked)


def test_neighbouring_and_closed_ledgers_are_not_taken_for_deleted(path: Path, ledger: Ledger) -> None:
    Book(ledger).plan("one")
    for number in range(3):
        other = open_ledger(f"sqlite:///{path}", api_origin=ORIGIN, holds_outputs=lambda: None)
        Book(other).plan(f"other-{number}", now=NOON)
        other.close()
        Book(ledger).plan(f"mine-{number}")
        ledger.read(reads.totals)
    names = ["one", *(f"{who}-{number}" for who in ("other", "mine") for number in range(3))]
    assert set(ledger.read(reads.snapshot, names, is_alive=lambda *_: False)) == set(names)
