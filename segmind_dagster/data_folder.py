"""Opens what a data folder holds, its ledger and its outputs together. What is done with them belongs elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from segmind_dagster.ledger import open_ledger
from segmind_dagster.outputs import OutputStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.settings import Settings


@contextmanager
def opened(settings: Settings) -> Iterator[tuple[Ledger, OutputStore]]:
    """The ledger and the output store of a data folder, guarded against another origin's.

    Args:
        settings: where both are, and which origin's they are to be.

    Raises:
        LedgerError: the ledger cannot be opened, or is not this origin's, or is empty beside existing outputs.
    """
    outputs = OutputStore(settings.outputs_url, scratch_dir=settings.data_dir)
    ledger = open_ledger(settings.ledger_url, api_origin=settings.api_origin, holds_outputs=outputs.find_any)
    try:
        yield ledger, outputs
    finally:
        ledger.close()
