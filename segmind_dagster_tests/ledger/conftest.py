"""Ledgers in a temporary folder, and a book that keeps generations in one."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
from lab.ledger import ORIGIN, Book

from segmind_dagster.ledger import open_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from segmind_dagster.ledger import Ledger


@pytest.fixture(autouse=True)
def _new_ledgers_are_copied() -> None:
    """Not here: these tests are about the real thing."""


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with its tables, to be copied: making them takes longer than most tests."""
    folder = tmp_path_factory.mktemp("ledger")
    open_ledger(f"sqlite:///{folder}/made.sqlite", api_origin=ORIGIN, holds_outputs=lambda: None).close()
    with sqlite3.connect(folder / "made.sqlite") as connection:
        connection.execute("VACUUM INTO ?", [str(folder / "empty.sqlite")])
    return folder / "empty.sqlite"


@pytest.fixture
def ledger(empty_ledger: Path, tmp_path: Path) -> Iterator[Ledger]:
    path = shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
    opened = open_ledger(f"sqlite:///{path}", api_origin=ORIGIN, holds_outputs=lambda: None)
    yield opened
    opened.close()


@pytest.fixture
def book(ledger: Ledger) -> Book:
    return Book(ledger)
