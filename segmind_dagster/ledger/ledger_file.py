"""Checks that a ledger's file is still the one that was opened.

SQLite continues to write to a file that was deleted, moved or replaced, and those writes would be lost. The content of
the file is not checked here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from segmind_dagster.errors import LedgerGoneError

if TYPE_CHECKING:
    from sqlalchemy import Connection

_WAL = "wal"


class LedgerFile:
    """The file of an open SQLite ledger; once it is gone, everything is refused, also if another file replaces it."""

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        self._identity: tuple[int, int] | None = None
        self._gone: str | None = None

    def remember(self) -> None:
        """Take the file that exists now as the right one."""
        self._identity = _identity(self._path)

    def check(self) -> None:
        """Check the file with one `stat`.

        Raises:
            LedgerGoneError: it is gone, or was at an earlier check.
        """
        if self._gone is not None:
            raise LedgerGoneError(str(self._path), self._gone)
        if self._identity is None:
            return
        try:
            found = _identity(self._path)
        except OSError as error:
            self._lost(error.strerror or type(error).__name__)
        if found != self._identity:
            self._lost("another file has its name")

    def check_connection(self, connection: Connection) -> None:
        """Check the file and its write-ahead log, which SQLite keeps while a connection is open.

        Args:
            connection: a connection at the beginning of a transaction.

        Raises:
            LedgerGoneError: one of the two is gone.
        """
        self.check()
        wal = self._path.with_name(f"{self._path.name}-wal")
        known: dict[Any, Any] = connection.info
        try:
            found = _identity(wal)
        except OSError:
            found = None
        if _WAL in known and found != known[_WAL]:
            self._lost(f"{wal.name} is gone, or is another file")
        if found is not None:
            known[_WAL] = found

    def _lost(self, seen: str) -> NoReturn:
        self._gone = seen
        raise LedgerGoneError(str(self._path), seen)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
