"""Opens a ledger: its database, its tables, its guards; and offers one object for reading and writing.

SQLite by default (WAL, synchronous FULL), PostgreSQL by URL. The queries are in `reads`, the operations in `moves`,
`writes`, `entries` and `rate`; this module only provides connections and access.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import create_engine, delete, event, insert, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from segmind_dagster.errors import LedgerError, LedgerMissingError, OriginMismatchError
from segmind_dagster.ledger import reads
from segmind_dagster.ledger.commits import GroupCommitter
from segmind_dagster.ledger.database_errors import remedy, translating
from segmind_dagster.ledger.leases import Process, Standing, lease_of, since_boot_s, standing
from segmind_dagster.ledger.ledger_file import LedgerFile
from segmind_dagster.ledger.schema import META

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Liveness(Protocol):
    """Tells whether a run is still alive."""

    def __call__(self, owner: str, connection: Connection | None = None) -> bool:
        """Whether the run of that owner is, asked on a connection if one is given."""


# how long others may lock an SQLite ledger
BUSY_TIMEOUT_S = 60.0
_STUCK_MS = 60_000
# longer, so that waiting writers outlast a stuck one
_BUSY_TIMEOUT_MS = 2 * _STUCK_MS
# alembic's, named in migrations/env.py
_VERSION_TABLE = "ledger_version"
# the advisory lock of writers: any number, the same in every process
_WRITERS_LOCK = 5_366_719_104


@dataclass(frozen=True, slots=True)
class Ledger:
    """An open ledger.

    Args:
        engine: connections for reading.
        writer: where every write goes.
    """

    engine: Engine
    writer: GroupCommitter

    def read(self, question: Callable[Concatenate[Connection, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run one of the queries and return its result."""
        with self.reading() as connection:
            return question(connection, *args, **kwargs)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for streamed results."""
        where = self.engine.url.render_as_string(hide_password=True)
        with translating(f"Read the ledger at {where}"), self.engine.connect() as connection:
            yield connection

    def write(self, operation: Callable[Concatenate[Connection, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run one of `moves`, `writes` or `entries` and wait until it is durable."""
        return self.writer.submit(operation, *args, **kwargs).result()

    async def awrite(
        self, operation: Callable[Concatenate[Connection, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """The same, while other tasks run."""
        return await self.writer.run_async(operation, *args, **kwargs)

    def standing(self, owner: str, at_s: float, connection: Connection | None = None) -> Standing:
        """Whether a run is still alive at a time of this machine's clock, see `leases`."""
        lease = self.read(lease_of, owner) if connection is None else lease_of(connection, owner)
        key = self.engine.url.render_as_string(), owner
        return standing(lease, key=key, here=Process.this(), at_s=at_s)

    def liveness(self, at_s: float | None = None) -> Liveness:
        """A function that tells whether a run is, or may be, alive.

        Args:
            at_s: when, on the clock of this machine; now when None.
        """
        at_s = since_boot_s() if at_s is None else at_s
        known: dict[str, bool] = {}

        def is_alive(owner: str, connection: Connection | None = None) -> bool:
            # looked up when a row names it, so that a run which began meanwhile is not taken for dead; on the
            # connection that read the row: waiting for a second one, many readers would wait for each other
            if owner not in known:
                known[owner] = self.standing(owner, at_s, connection) != "over"
            return known[owner]

        return is_alive

    def close(self) -> None:
        """Finish what is queued and close the database."""
        self.writer.close()
        self.engine.dispose()


def is_absent(url: str) -> bool:
    """Whether there is certainly no ledger yet; `open_ledger` explains one that cannot be read."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return bool(parsed.database) and _is_no_file(parsed.database or "")
        engine = create_engine(_with_driver(parsed))
        try:
            return not inspect(engine).has_table(_VERSION_TABLE)
        finally:
            engine.dispose()
    except SQLAlchemyError:
        return False


def _is_no_file(path: str) -> bool:
    try:
        Path(path).stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _with_driver(url: URL) -> URL:
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def shown(url: str) -> str:
    """A ledger's URL in a form safe to show."""
    return make_url(url).render_as_string(hide_password=True)


def open_ledger(
    url: str, *, api_origin: str, holds_outputs: Callable[[], str | None], is_rebuilt: bool = False
) -> Ledger:
    """Open a ledger, creating or upgrading its tables.

    Args:
        url: SQLAlchemy URL.
        api_origin: the origin this run talks to.
        holds_outputs: names the place where outputs were found, if there are any.
        is_rebuilt: an empty ledger is opened as it is: its origin is recorded together with what is restored, so
            that everybody else is refused until then.

    Raises:
        OriginMismatchError: the ledger belongs to another origin.
        LedgerMissingError: the ledger is empty, but outputs exist.
        LedgerError: the database cannot be opened.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise LedgerError("SEGMIND_LEDGER_URL is not a database URL such as postgresql://host/name.") from error
    where = shown(url)
    url = _with_driver(parsed).render_as_string(hide_password=False)
    try:
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        file = LedgerFile(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None
        writing = _engine(url, writes=True, file=file)
        with _let_go_of(writing), writing.begin() as connection:
            _migrate(connection)
            recorded = reads.meta(connection, "api_origin")
            # a ledger that was only read has no origin yet, and no outputs
            if is_empty := reads.is_empty(connection):
                found = None if is_rebuilt or reads.meta(connection, "rebuilt_at") else holds_outputs()
                if found:
                    raise LedgerMissingError(where, found)
            if recorded is None or (recorded != api_origin and is_empty):
                if not is_rebuilt:
                    connection.execute(delete(META).where(META.c.key == "api_origin"))
                    connection.execute(insert(META), {"key": "api_origin", "value": api_origin})
            elif recorded != api_origin:
                raise OriginMismatchError(recorded, api_origin, where)
        if file is not None:
            file.remember()
        return Ledger(engine=_engine(url, writes=False, file=file), writer=GroupCommitter(writing))
    except (SQLAlchemyError, OSError) as error:
        cause = error.__cause__ or error
        raise LedgerError(
            f"Opened the ledger at {where}, but the database answered: {str(cause).strip()}. Nothing was submitted. "
            f"{remedy(cause)}"
        ) from error


@contextmanager
def _let_go_of(engine: Engine) -> Iterator[None]:
    """Close what is open if the block fails."""
    try:
        yield
    except BaseException:
        engine.dispose()
        raise


def _engine(url: str, *, writes: bool, file: LedgerFile | None) -> Engine:
    engine = create_engine(url)
    # a writer that is stopped inside a transaction, or whose machine is dead, must not block all others
    limits = f"-c idle_in_transaction_session_timeout={_STUCK_MS} -c lock_timeout={_BUSY_TIMEOUT_MS}"
    if engine.dialect.name == "postgresql" and writes:
        engine = create_engine(url, connect_args={"options": limits})
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        if file is not None:
            # before connecting, which would create an empty file, and before anything is written
            event.listen(engine, "do_connect", lambda *_: file.check())
            event.listen(engine, "begin", file.check_connection)
        event.listen(engine, "begin", partial(_begin, "BEGIN IMMEDIATE" if writes else "BEGIN"))
    elif writes:
        # one writer at a time, as with SQLite: rate and caps are read before they are written
        event.listen(engine, "begin", partial(_begin, f"SELECT pg_advisory_xact_lock({_WRITERS_LOCK})"))
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says, not where the driver guesses
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
    # runs that open a new file at once all switch it to WAL, and SQLite does not wait for that by itself
    for attempt in Retrying(
        retry=retry_if_exception(_is_locked),
        stop=stop_after_delay(BUSY_TIMEOUT_S),
        wait=wait_random(0.01, 0.1),
        reraise=True,
    ):
        with attempt:
            cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _is_locked(error: BaseException) -> bool:
    """Whether waiting can help, unlike with a read-only or full disk."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _begin(statement: str, connection: Connection) -> None:
    connection.exec_driver_sql(statement)


def _migrate(connection: Connection) -> None:
    # alembic takes a third of a second to import: only when there is something to upgrade
    from sqlalchemy import text

    from segmind_dagster.ledger.migrations import HEAD

    if inspect(connection).has_table(_VERSION_TABLE):
        version = connection.execute(text("SELECT version_num FROM ledger_version")).scalar()
        if version == HEAD:
            return
        if version is not None and version > HEAD:
            raise LedgerError(
                f"The ledger was written by a newer version of segmind-dagster (its tables are at revision {version}, "
                f"this program knows up to {HEAD}). Upgrade segmind-dagster; nothing was changed."
            )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
