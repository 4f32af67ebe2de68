"""Ledgers that are damaged, out of reach, out of room or held by others: a clear stop, at once, and nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab.ledger import ORIGIN, Book
from sqlalchemy import insert

from segmind_dagster.errors import LedgerError, LedgerMissingError
from segmind_dagster.ledger import Ledger, open_ledger, reads, store
from segmind_dagster.ledger.schema import META

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GENERATIONS = [f"g{number:03}" for number in range(300)]


def opened(path: Path, *, outputs: str | None = "data/outputs") -> Ledger:
    return open_ledger(f"sqlite:///{path}", api_origin=ORIGIN, holds_outputs=lambda: outputs)


def used(path: Path) -> int:
    """How many generations a run would find in it."""
    ledger = opened(path)
    try:
        found = ledger.read(reads.snapshot, GENERATIONS, is_alive=lambda _owner: False)
        ledger.write(lambda connection: connection.execute(insert(META), {"key": "a", "value": "b"}))
        return len(found)
    finally:
        ledger.close()


@pytest.fixture
def filled(empty_ledger: Path, tmp_path: Path) -> Path:
    """A ledger with three hundred generations, closed."""
    path = Path(shutil.copy(empty_ledger, tmp_path / "ledger.sqlite"))
    ledger = opened(path, outputs=None)
    Book(ledger).plan(*GENERATIONS)
    ledger.close()
    return path


@contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def flip_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for page in range(2 * 4096, len(content), 4096):
        content[page : page + 200] = bytes(200)
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "pages flipped": flip_pages,
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut in its header": lambda path: os.truncate(path, 50),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "something else": lambda path: path.write_bytes(b"<html>" * 1000),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_ledger_is_named_with_advice_and_unchanged(filled: Path, what: str) -> None:
    DAMAGES[what](filled)
    before = filled.read_bytes()
    with pytest.raises(LedgerError, match="damaged") as raised:
        used(filled)
    for words in (str(filled), "segmind-dagster rebuild", "backup"):
        assert words in str(raised.value)
    assert filled.read_bytes() == before


def test_a_ledger_with_a_damaged_table_stops_the_run(filled: Path) -> None:
    ledger = opened(filled)
    with sqlite3.connect(filled) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'generations'").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with filled.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(bytes(4096))
    fresh = opened(filled)
    for each in (ledger, fresh):
        with pytest.raises(LedgerError, match="damaged"):
            each.read(reads.snapshot, GENERATIONS, is_alive=lambda *_: False)
        each.close()


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_garbage_in_a_companion_file_loses_nothing(filled: Path, ending: str) -> None:
    Path(f"{filled}{ending}").write_bytes(os.urandom(32_768))
    assert used(filled) == len(GENERATIONS)


@pytest.mark.parametrize("what", ["emptied", "gone"])
def test_an_emptied_ledger_stops_the_run_and_names_rebuild(filled: Path, what: str) -> None:
    if what == "gone":
        filled.unlink()
    else:
        filled.write_bytes(b"")
    with pytest.raises(LedgerMissingError, match="segmind-dagster rebuild"):
        used(filled)


def test_a_ledger_whose_last_writes_are_only_in_its_log_has_them(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger.sqlite", outputs=None)
    Book(ledger).plan(*GENERATIONS)
    copy = tmp_path / "copy"
    copy.mkdir()
    for each in tmp_path.glob("ledger.sqlite*"):
        shutil.copy(each, copy)
    ledger.close()
    assert used(copy / "ledger.sqlite") == len(GENERATIONS)


@pytest.mark.parametrize("size_bytes", [0, 4096, 40_000])
def test_a_full_disk_at_opening_is_named_and_opening_works_with_free_space(tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "ledger.sqlite"
    with room_for(size_bytes), pytest.raises(LedgerError, match="Make room"):
        opened(path, outputs=None)
    opened(path, outputs=None).close()


def test_a_full_disk_refuses_every_write_of_a_group_completely(filled: Path) -> None:
    ledger = opened(filled)
    before = ledger.read(reads.totals)
    with room_for(0):
        waiting = [
            ledger.writer.submit(
                lambda connection, key=str(n): connection.execute(insert(META), {"key": key, "value": "x" * 9000})
            )
            for n in range(200)
        ]
        errors = [future.exception(timeout=20) for future in waiting]
    assert all(isinstance(error, LedgerError) and "Make room" in str(error) for error in errors)
    assert "INSERT" not in str(errors[0])
    assert ledger.read(reads.totals) == before
    assert ledger.read(reads.meta, "0") is None
    ledger.write(lambda connection: connection.execute(insert(META), {"key": "again", "value": "x"}))
    ledger.close()


def holding(path: Path) -> subprocess.Popen[str]:
    """Another process that has the ledger locked, until its input ends."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE'); "
        "print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "held"
    return child


def test_a_locked_ledger_is_waited_for_once_and_then_named(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_S", 0.2)
    ledger = opened(filled)
    child = holding(filled)
    try:
        with pytest.raises(LedgerError, match="suspended"):
            opened(filled)
        began = time.monotonic()
        waiting = [ledger.writer.submit(lambda _: None) for _ in range(50)]
        errors = [future.exception(timeout=20) for future in waiting]
        assert time.monotonic() - began < 3, "once a group, not once a write"
        assert all(isinstance(error, LedgerError) for error in errors)
        assert "suspended" in str(errors[0])
        assert sum(count for count, _ in ledger.read(reads.totals).values()) == len(GENERATIONS), "reading goes on"
    finally:
        child.communicate("")
    ledger.write(lambda connection: connection.execute(insert(META), {"key": "after", "value": "x"}))
    ledger.close()


def test_a_failed_opening_releases_the_file(filled: Path) -> None:
    with pytest.raises(LedgerError):
        open_ledger(f"sqlite:///{filled}", api_origin="https://other.example", holds_outputs=lambda: None)
    held = {os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()}
    assert not [path for path in held if path.startswith(str(filled))]


READ_ONLY = """
import ctypes, sys, time
# root may write anywhere; without these two capabilities it is a user like others
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
import os
if os.environ.get("IS_BARE") is None:
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "IS_BARE": "1"})
from segmind_dagster.errors import LedgerError
from segmind_dagster.ledger import open_ledger
began = time.monotonic()
try:
    open_ledger(sys.argv[1], api_origin="http://127.0.0.1:8777", holds_outputs=lambda: None)
except LedgerError as error:
    print(f"{time.monotonic() - began:.1f}", error)
"""


@pytest.mark.parametrize("what", ["folder", "file", "folder of the folder"])
def test_a_read_only_ledger_is_refused_at_once(filled: Path, what: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "data"
        folder.mkdir()
        path = folder / ("below/ledger.sqlite" if what == "folder of the folder" else "ledger.sqlite")
        if what == "file":
            shutil.copy(filled, path)
            path.chmod(0o444)
        elif what == "folder":
            shutil.copy(filled, path)
        folder.chmod(0o555)
        told = subprocess.run(
            [sys.executable, "-c", READ_ONLY, f"sqlite:///{path}"], capture_output=True, text=True, check=False
        )
        folder.chmod(0o755)
    assert told.returncode == 0, told.stderr
    seconds, _, message = told.stdout.partition(" ")
    assert "write to the file and to its folder" in message
    assert "Nothing was submitted" in message
    assert float(seconds) < 5


@pytest.mark.parametrize(
    "url", ["postgresql://me:hidden-word@127.0.0.1:1/ledger", "postgresql+psycopg://me:hidden-word@127.0.0.1:1/ledger"]
)
def test_an_unreachable_server_is_named_without_its_password(url: str) -> None:
    with pytest.raises(LedgerError, match="SEGMIND_LEDGER_URL is right") as raised:
        open_ledger(url, api_origin=ORIGIN, holds_outputs=lambda: None)
    assert "hidden-word" not in str(raised.value)
    assert "Nothing was submitted" in str(raised.value)
