"""Opening a ledger: its tables and their history, and the guards that keep payments from being forgotten."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from lab.ledger import ORIGIN, Book
from sqlalchemy import text

from segmind_dagster.errors import LedgerError, LedgerMissingError, OriginMismatchError
from segmind_dagster.ledger import Ledger, leases, migrations, open_ledger, reads
from segmind_dagster.ledger.leases import place
from segmind_dagster.ledger.schema import METADATA, RUNS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


# on the clock of this machine
MORNING_S = 5000.0
TODAY = datetime.now(UTC)


def opened(path: Path, *, origin: str = ORIGIN, outputs: str | None = None) -> Ledger:
    return open_ledger(f"sqlite:///{path}", api_origin=origin, holds_outputs=lambda: outputs)


def differences(ledger: Ledger) -> list[Any]:
    """How the tables in the database differ from those the code expects."""
    options = {"compare_type": True, "compare_server_default": True, "version_table": "ledger_version"}
    with ledger.reading() as connection:
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)


def test_the_migrations_create_exactly_the_tables_of_the_schema(ledger: Ledger) -> None:
    assert differences(ledger) == []


def test_an_unexpected_table_would_be_noticed(ledger: Ledger, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("DROP INDEX attempts_by_model")
        connection.execute("ALTER TABLE uploads ADD COLUMN extra TEXT")
    assert len(differences(ledger)) == 2


def test_the_newest_migration_is_the_one_the_program_knows(ledger: Ledger) -> None:
    versions = resources.files(migrations).joinpath("versions").iterdir()
    newest = max(file.name[:4] for file in versions if file.name.endswith(".py") and file.name[0].isdigit())
    assert newest == migrations.HEAD
    with ledger.reading() as connection:
        assert connection.execute(text("SELECT version_num FROM ledger_version")).scalars().all() == [newest]


def test_a_ledger_is_durable_before_a_write_returns(ledger: Ledger) -> None:
    for engine in (ledger.engine, ledger.writer._engine):
        with engine.connect() as connection:
            pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
        assert pragmas == ["wal", 2]


def test_what_was_written_is_there_when_the_ledger_is_opened_again(tmp_path: Path) -> None:
    first = opened(tmp_path / "ledger.sqlite")
    Book(first).in_state("g", "submitted")
    first.close()
    second = opened(tmp_path / "ledger.sqlite")
    assert Book(second).record("g").state == "submitted"
    second.close()


def test_the_folders_of_a_ledger_are_created(tmp_path: Path) -> None:
    opened(tmp_path / "a" / "b" / "ledger.sqlite").close()
    assert (tmp_path / "a" / "b" / "ledger.sqlite").is_file()


def test_a_ledger_belongs_to_the_origin_it_was_made_for(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    first = opened(path)
    Book(first).plan("g")
    first.close()
    with pytest.raises(OriginMismatchError) as raised:
        opened(path, origin="https://api.segmind.com")
    for part in (ORIGIN, "https://api.segmind.com", str(path), "SEGMIND_DATA_DIR", "SEGMIND_API_URL"):
        assert part in str(raised.value)
    assert (raised.value.recorded, raised.value.configured) == (ORIGIN, "https://api.segmind.com")
    ledger = opened(path)
    assert ledger.read(reads.meta, "api_origin") == ORIGIN
    ledger.close()


def test_a_ledger_that_was_only_read_accepts_another_origin(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    opened(path).close()
    ledger = opened(path, origin="https://api.segmind.com")
    assert ledger.read(reads.meta, "api_origin") == "https://api.segmind.com"
    ledger.close()


def test_an_empty_ledger_beside_outputs_stops_every_run(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    for _ in range(2):
        with pytest.raises(LedgerMissingError, match="paid for") as raised:
            opened(path, outputs="data/outputs")
        assert "data/outputs" in str(raised.value)
    opened(path, outputs=None).close()
    with pytest.raises(LedgerMissingError):
        opened(path, outputs="data/outputs")


def test_a_ledger_with_generations_may_stand_beside_outputs(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = opened(path)
    Book(ledger).plan("g")
    ledger.close()
    opened(path, outputs="data/outputs").close()


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    opened(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE ledger_version SET version_num = '9999'")
    with pytest.raises(LedgerError, match="newer version") as raised:
        opened(path)
    assert "9999" in str(raised.value)
    assert migrations.HEAD in str(raised.value)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM ledger_version").fetchall() == [("9999",)]


def test_a_file_that_is_not_a_database_is_a_clear_error_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    content = b"somebody put something else here\n" * 100
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="not a database") as raised:
        opened(path)
    assert str(path) in str(raised.value)
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="unable to open"):
        opened(tmp_path)


def test_a_password_is_not_shown_when_a_server_does_not_answer() -> None:
    with pytest.raises(LedgerError) as raised:
        open_ledger("postgresql://me:pass-of-mine@127.0.0.1:1/ledger", api_origin=ORIGIN, holds_outputs=lambda: None)
    assert "pass-of-mine" not in str(raised.value)
    assert "127.0.0.1:1" in str(raised.value)


def test_many_runs_may_open_a_fresh_ledger_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    start = threading.Barrier(6)

    def open_it() -> None:
        start.wait()
        try:
            opened(tmp_path / "ledger.sqlite").close()
        except BaseException as error:  # noqa: BLE001  shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def entered(ledger: Ledger, owner: str, *, at: str, pid: int, lease_s: float) -> None:
    process = leases.Process(at, pid, None)
    ledger.write(
        leases.record_lease, owner=owner, run_id=None, process=process, at_s=MORNING_S, now=TODAY, lease_s=lease_s
    )


def a_dead_process() -> int:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


@pytest.mark.parametrize(
    ("at", "pid", "lease_s", "is_alive"),
    [
        (place, os.getpid, 60, True),
        (place, os.getpid, 0, False),
        (place, os.getpid, -1, False),
        (place, a_dead_process, 60, False),
        (lambda: "another machine", a_dead_process, 60, True),
        (place, lambda: 1, 60, True),
    ],
    ids=["running", "lease just over", "frozen", "killed", "elsewhere", "somebody else's"],
)
def test_a_run_is_alive_while_its_lease_and_its_process_are(
    book: Book, at: Callable[[], str], pid: Callable[[], int], lease_s: float, is_alive: bool
) -> None:
    book.in_state("g", "submitted", owner="me")
    entered(book.ledger, "me", at=at(), pid=pid(), lease_s=lease_s)
    alive = book.ledger.liveness(MORNING_S)
    assert alive("me") is is_alive
    found = book.ledger.read(reads.unfinished, is_alive=alive)
    assert [record.generation_id for record in found] == ([] if is_alive else ["g"])


def test_a_run_without_a_lease_is_not_alive(book: Book) -> None:
    book.in_state("g", "submitted", owner="me")
    assert book.ledger.liveness(MORNING_S)("me") is False
    assert book.ledger.liveness(MORNING_S)("unheard of") is False


def test_renewing_a_lease_keeps_the_beginning_of_the_run(book: Book) -> None:
    book.in_state("g", "submitted", owner="me")
    entered(book.ledger, "me", at=place(), pid=os.getpid(), lease_s=-5)
    entered(book.ledger, "me", at=place(), pid=os.getpid(), lease_s=60)
    assert book.ledger.liveness(MORNING_S)("me") is True
    (row,) = book.rows(RUNS)
    assert (row["started_at"], row["lease_until"]) == (TODAY, TODAY + timedelta(seconds=60))


def test_a_run_that_begins_during_a_lookup_is_not_taken_for_dead(book: Book) -> None:
    alive = book.ledger.liveness(MORNING_S)
    entered(book.ledger, "me", at=place(), pid=os.getpid(), lease_s=60)
    assert alive("me") is True


def test_concurrent_liveness_queries_do_not_block_each_other(book: Book) -> None:
    book.in_state("g", "submitted", owner="gone")

    def is_owner_alive(_: int) -> bool:
        alive = book.ledger.liveness(MORNING_S)
        return book.ledger.read(reads.snapshot, ["g"], is_alive=alive)["g"].is_owner_alive

    with ThreadPoolExecutor(24) as pool:
        assert not any(pool.map(is_owner_alive, range(400)))


def test_two_processes_of_one_machine_have_the_same_place() -> None:
    code = "from segmind_dagster.ledger.leases import place; print(place())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert told == place()
