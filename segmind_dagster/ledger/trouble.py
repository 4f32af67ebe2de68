"""What a database's own error means: an error of ours that says what was attempted, what was seen, what to do.

Errors that concern one statement (a duplicate, a value out of range) are the caller's business and stay as they are.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from segmind_dagster.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator

# words of SQLite's messages, and what a person can do; no other statement would fare better
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
    """What a person can do about it."""
    return _known(error) or _OTHERWISE


def concerns_everything(error: BaseException) -> bool:
    """Whether it is about the database as a whole, rather than about one statement."""
    return isinstance(error, DBAPIError) and _known(error.__cause__ or error) is not None


def for_people(what: str, error: Exception) -> Exception:
    """A database's error as ours; any other as it is.

    Args:
        what: what was attempted.
        error: what came of it.
    """
    if not isinstance(error, DBAPIError) or isinstance(error, (IntegrityError, DataError)):
        return error
    cause = error.__cause__ or error
    ours = LedgerError(
        f"{what}, but the database answered: {str(cause).strip()}. Nothing more is submitted. {remedy(cause)} Then "
        "materialize again: what was paid for is collected, and nothing is paid for twice."
    )
    ours.__cause__ = error
    return ours


@contextmanager
def explained(what: str) -> Iterator[None]:
    """The database's errors leave as ours.

    Raises:
        LedgerError: what `for_people` makes of such an error.
    """
    try:
        yield
    except DBAPIError as error:
        raise for_people(what, error) from error


def _known(error: BaseException) -> str | None:
    said = str(error).lower()
    return next((advice for words, advice in _REMEDIES if any(word in said for word in words)), None)
