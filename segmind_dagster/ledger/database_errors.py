"""Translates database errors into ledger errors: what was attempted, what was seen, what to do.

Every SQLAlchemy error becomes a `LedgerError` here; none leaves the ledger untranslated. Refusals are raised by the
operations themselves.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from segmind_dagster.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator

# words of SQLite's messages, and advice; these errors concern every statement
_REMEDIES = (
    (
        ("malformed", "not a database"),
        (
            "The file is damaged: restore it from a backup, or move it aside together with its -wal and -shm files "
            "and run `segmind-dagster rebuild`."
        ),
    ),
    (
        ("locked",),
        (
            "For a minute another process was in the middle of a write; it is probably suspended (Ctrl-Z, a paused "
            "container). Wake or end it."
        ),
    ),
    (
        ("readonly", "read-only", "unable to open", "permission denied"),
        "See to it that this user can write to the file and to its folder.",
    ),
    (("full", "no space", "disk i/o error", "too large"), "Make room on the disk that holds it."),
)
_OTHERWISE = "Check that SEGMIND_LEDGER_URL is right, and that what it names is there and answers."


def remedy(error: BaseException) -> str:
    """Advice for a person."""
    return _known(error) or _OTHERWISE


def concerns_everything(error: BaseException) -> bool:
    """Whether the error concerns the whole database, rather than one statement."""
    return isinstance(error, DBAPIError) and _known(error.__cause__ or error) is not None


def translated(attempted: str, error: Exception) -> Exception:
    """A database error as a ledger error; any other unchanged."""
    if not isinstance(error, SQLAlchemyError):
        return error
    cause = error.__cause__ or error
    said = f"{attempted}, but the database answered: {str(cause).strip()}."
    if not isinstance(error, DBAPIError) or isinstance(error, (IntegrityError, DataError)):
        # one operation is wrong, not the database: the others continue
        ours = LedgerError(f"{said} This operation changed nothing; everything else in the ledger stays as it is.")
    else:
        ours = LedgerError(
            f"{said} Nothing more is submitted. {remedy(cause)} Then materialize again: what was paid for is "
            "collected, and nothing is paid for twice."
        )
    ours.__cause__ = error
    return ours


@contextmanager
def translating(attempted: str) -> Iterator[None]:
    """Raise database errors of the block as ledger errors.

    Raises:
        LedgerError: what `translated` makes of such an error.
    """
    try:
        yield
    except SQLAlchemyError as error:
        raise translated(attempted, error) from error


def _known(error: BaseException) -> str | None:
    said = str(error).lower()
    return next((advice for words, advice in _REMEDIES if any(word in said for word in words)), None)
