"""One loader at a time: dlt's staging tables, its stored schema and its working folder are shared.

Two locks, always taken in this order: one for the dataset (beside the ledger, so that every machine that
shares a ledger shares it), one for dlt's working folder on this machine. Our own readers of a DuckDB file
take turns by the same lock, because DuckDB lets one process in.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import time
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from segmind_dagster.errors import LoadLockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import duckdb

    from segmind_dagster.settings import Settings

LOGGER = logging.getLogger(__name__)
WAIT_S = 1800.0
_LOOK_EVERY_S = 5.0
# a run that waits for half an hour says so a few dozen times, not hundreds
_SAY_EVERY_S = 60.0
_ADVISORY_LOCK = 0x5E61_D1A6
# the session says nothing after it has taken the lock: its last change of state is that moment
_HOLDER = """
SELECT application_name, extract(epoch FROM clock_timestamp() - state_change)
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pg_locks.database = (
  SELECT oid FROM pg_database WHERE datname = current_database()
) AND classid::bigint << 32 | objid::bigint = %(key)s AND state_change IS NOT NULL
"""


@contextmanager
def load_lock(
    settings: Settings, *, purpose: str, wait_s: float = WAIT_S, say: Callable[[str], None] = LOGGER.info
) -> Iterator[None]:
    """Hold the right to touch the dataset.

    Args:
        settings: which data folder and ledger.
        purpose: what for; shown to processes that wait.
        wait_s: how long to wait for it.
        say: called with a sentence while waiting.

    Raises:
        LoadLockError: another process kept it for longer than that.
    """
    with ExitStack() as stack:
        if settings.ledger_url.startswith("postgresql"):
            stack.enter_context(_advisory_lock(settings.ledger_url, purpose, wait_s, say))
        else:
            stack.enter_context(_file_lock(settings.data_dir / "load.lock", purpose, wait_s, say))
        yield


@contextmanager
def working_folder_lock(
    pipelines_dir: Path, *, purpose: str, wait_s: float = WAIT_S, say: Callable[[str], None] = LOGGER.info
) -> Iterator[None]:
    """Hold dlt's working folder, which other data folders on this machine use as well; see `load_lock`."""
    with _file_lock(pipelines_dir / ".segmind.lock", purpose, wait_s, say):
        yield


@contextmanager
def duckdb_held(path: Path, *, wait_s: float = 120.0, say: Callable[[str], None] = LOGGER.info) -> Iterator[None]:
    """Wait until no other process has the DuckDB file open, then keep it open.

    dlt opens and closes its connection for every step of a load. While the file is held these share one database:
    it is opened and checkpointed once, and no other process gets in between two steps.

    Args:
        path: the file; it is made where there is none.
        wait_s: how long to wait.
        say: called with a sentence while waiting.

    Raises:
        LoadLockError: another process kept it open; the message names it.
    """
    with closing(_opened_duckdb(path, wait_s, say)):
        yield


def _opened_duckdb(path: Path, wait_s: float, say: Callable[[str], None]) -> duckdb.DuckDBPyConnection:
    import duckdb

    began = time.monotonic()
    while True:
        try:
            return duckdb.connect(str(path))
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise
            holder = _duckdb_holder(str(error), path)
            waited = time.monotonic() - began
            if waited >= wait_s:
                raise LoadLockError(holder, waited) from error
            say(f"Waiting for {path.name}: it is open in {holder}.")
            time.sleep(min(2.0, wait_s))


@contextmanager
def _file_lock(path: Path, purpose: str, wait_s: float, say: Callable[[str], None]) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    holder_file = path.with_suffix(".holder")
    lock = FileLock(path)

    def is_acquired(at_most_s: float) -> bool:
        try:
            lock.acquire(timeout=at_most_s)
        except Timeout:
            return False
        return True

    _wait(is_acquired, lambda: _holder(holder_file), wait_s, say)
    try:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "purpose": purpose,
            "since": datetime.now(UTC).isoformat(),
        }
        holder_file.write_text(json.dumps(holder), encoding="utf-8")
        yield
    finally:
        lock.release()


def _wait(
    is_acquired: Callable[[float], bool], holder: Callable[[], str], wait_s: float, say: Callable[[str], None]
) -> None:
    """Try until it is acquired, say who has it, less and less often; give up after `wait_s`."""
    began = time.monotonic()
    say_at = began + _LOOK_EVERY_S
    pause_s = _LOOK_EVERY_S
    while not is_acquired(max(0.0, min(_LOOK_EVERY_S, wait_s - (time.monotonic() - began)))):
        now = time.monotonic()
        if now - began >= wait_s:
            raise LoadLockError(holder(), now - began)
        if now >= say_at:
            say(f"Waiting for the load lock for {now - began:.0f} s: it is held by {holder()}.")
            pause_s = min(2 * pause_s, _SAY_EVERY_S)
            say_at = now + pause_s


def _holder(path: Path) -> str:
    try:
        holder: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        since = datetime.fromisoformat(holder["since"])
    except (OSError, ValueError, KeyError):
        return "another process"
    held_s = (datetime.now(UTC) - since).total_seconds()
    return f"process {holder.get('pid')} on {holder.get('host')} ({holder.get('purpose')}) for {held_s:.0f} s"


@contextmanager
def _advisory_lock(url: str, purpose: str, wait_s: float, say: Callable[[str], None]) -> Iterator[None]:
    """A lock of the database's own, gone with the connection; what holds it is written in `application_name`."""
    import psycopg

    # a ledger's URL may name a driver, which is SQLAlchemy's form and not the database's
    address = re.sub(r"^postgresql\+\w+:", "postgresql:", url)
    key = {"key": _ADVISORY_LOCK}
    name = f"process {os.getpid()} on {socket.gethostname()[:20]} ({purpose[:20]})"
    # without a transaction, for a server may end those that are idle while the load goes on
    with psycopg.connect(address, autocommit=True) as connection:
        # a server-side limit on statements is not meant for waiting
        connection.execute("SET statement_timeout = 0")
        connection.execute("SELECT set_config('application_name', %(name)s, false)", {"name": name})

        def is_acquired(at_most_s: float) -> bool:
            limit = {"limit": str(max(1, int(at_most_s * 1000)))}
            connection.execute("SELECT set_config('lock_timeout', %(limit)s, false)", limit)
            try:
                connection.execute("SELECT pg_advisory_lock(%(key)s)", key)
            except psycopg.errors.LockNotAvailable:
                return False
            return True

        def holder() -> str:
            found = connection.execute(_HOLDER, key).fetchone()
            return "another loader of this ledger" if found is None else f"{found[0]} for {found[1]:.0f} s"

        _wait(is_acquired, holder, wait_s, say)
        try:
            yield
        finally:
            connection.execute("SELECT pg_advisory_unlock(%(key)s)", key)


def _duckdb_holder(message: str, path: Path) -> str:
    found = re.search(r"held in ([^\n]*?\(PID \d+\))", message)
    return found.group(1) if found else f"another process that has {path.name} open"
