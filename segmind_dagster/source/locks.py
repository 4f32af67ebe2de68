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
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from segmind_dagster.errors import LoadLockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from segmind_dagster.settings import Settings

LOGGER = logging.getLogger(__name__)
WAIT_S = 1800.0
_LOOK_EVERY_S = 5.0
_ADVISORY_LOCK = 0x5E61_D1A6


@contextmanager
def load_lock(
    settings: Settings, *, purpose: str, wait_s: float = WAIT_S, say: Callable[[str], None] = LOGGER.info
) -> Iterator[None]:
    """Hold the right to touch the dataset.

    Args:
        settings: which data folder and ledger.
        purpose: what for; shown to whoever waits.
        wait_s: how long to wait for it.
        say: told while waiting.

    Raises:
        LoadLockError: somebody else kept it for longer than that.
    """
    with ExitStack() as stack:
        if settings.ledger_url.startswith("postgresql"):
            stack.enter_context(_advisory_lock(settings.ledger_url, wait_s))
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


def wait_for_duckdb(path: Path, *, wait_s: float = 120.0, say: Callable[[str], None] = LOGGER.info) -> None:
    """Wait until nobody else has the DuckDB file open.

    Args:
        path: the file; nothing is waited for while it does not exist.
        wait_s: how long.
        say: told while waiting.

    Raises:
        LoadLockError: somebody kept it open; the message names the process.
    """
    import duckdb

    began = time.monotonic()
    while path.exists():
        try:
            duckdb.connect(str(path)).close()
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise
            holder = _duckdb_holder(str(error), path)
            waited = time.monotonic() - began
            if waited >= wait_s:
                raise LoadLockError(holder, waited) from error
            say(f"Waiting for {path.name}: it is open in {holder}.")
            time.sleep(min(2.0, wait_s))
        else:
            return


@contextmanager
def _file_lock(path: Path, purpose: str, wait_s: float, say: Callable[[str], None]) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    holder_file = path.with_suffix(".holder")
    lock = FileLock(path)
    began = time.monotonic()
    while True:
        left = wait_s - (time.monotonic() - began)
        try:
            lock.acquire(timeout=max(0.0, min(_LOOK_EVERY_S, left)))
            break
        except Timeout as error:
            if left <= _LOOK_EVERY_S:
                raise LoadLockError(_holder(holder_file), time.monotonic() - began) from error
            say(f"Waiting for the load lock: it is held by {_holder(holder_file)}.")
    try:
        facts = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "purpose": purpose,
            "since": datetime.now(UTC).isoformat(),
        }
        holder_file.write_text(json.dumps(facts), encoding="utf-8")
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        since = datetime.fromisoformat(facts["since"])
    except (OSError, ValueError, KeyError):
        return "another process"
    held_s = (datetime.now(UTC) - since).total_seconds()
    return f"process {facts.get('pid')} on {facts.get('host')} ({facts.get('purpose')}) for {held_s:.0f} s"


@contextmanager
def _advisory_lock(url: str, wait_s: float) -> Iterator[None]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import OperationalError

    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    began = time.monotonic()
    try:
        with engine.connect() as connection:
            connection.execute(text(f"SET lock_timeout = '{int(wait_s * 1000)}ms'"))
            try:
                connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
            except OperationalError as error:
                raise LoadLockError("another loader of this ledger", time.monotonic() - began) from error
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
    finally:
        engine.dispose()


def _duckdb_holder(message: str, path: Path) -> str:
    found = re.search(r"held in ([^\n]*?\(PID \d+\))", message)
    return found.group(1) if found else f"another process that has {path.name} open"
