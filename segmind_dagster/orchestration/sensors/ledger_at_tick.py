"""Opens the ledger for a tick: it only reads, and creates nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from segmind_dagster.ledger import Ledger, is_absent, open_ledger
from segmind_dagster.settings import Settings


@contextmanager
def ledger_at_tick(settings: Settings) -> Iterator[Ledger | None]:
    """The ledger; None before the first run.

    Raises:
        LedgerError: it cannot be read, or belongs to another origin.
    """
    if is_absent(settings.ledger_url):
        yield None
        return
    # whether outputs exist without a ledger is for runs to find out: looking may ask a bucket
    ledger = open_ledger(settings.ledger_url, api_origin=settings.api_origin, holds_outputs=lambda: None)
    try:
        yield ledger
    finally:
        ledger.close()


def shown(items: list[str], *, most: int = 5) -> str:
    """A few names as people read them, and how many more there are."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")
