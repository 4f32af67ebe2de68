"""Opens what a data folder holds, its ledger and its outputs together. What is done with them belongs elsewhere.

Whoever is about to write uses `opened`, which makes what is missing; whoever only looks, `as_found`, which does not.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from segmind_dagster.errors import LedgerMissingError
from segmind_dagster.ledger import is_absent, open_ledger, shown
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


@contextmanager
def as_found(settings: Settings) -> Iterator[tuple[Ledger, OutputStore]]:
    """The same, and nothing is made: where there is no ledger yet, an empty one that is gone afterwards stands for it.

    Raises:
        LedgerError: as `opened`.
    """
    if not is_absent(settings.ledger_url):
        with opened(settings) as found:
            yield found
        return
    if outputs := OutputStore(settings.outputs_url, scratch_dir=settings.data_dir).find_any():
        raise LedgerMissingError(shown(settings.ledger_url), outputs)
    with (
        TemporaryDirectory(prefix="segmind-") as folder,
        opened(replace(settings, ledger_url=f"sqlite:///{folder}/ledger.sqlite")) as found,
    ):
        yield found
