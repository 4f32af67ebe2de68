"""Opens what a data folder holds, its ledger and its outputs together. What is done with them belongs elsewhere.

Code that writes uses `opened`, which creates what is missing; code that only reads uses `as_found`, which does not.
A run of several parts hands a `RunContext` from one to the next, so that each thing is opened and read once.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory
from threading import RLock
from typing import TYPE_CHECKING

from segmind_dagster.errors import LedgerMissingError, PromptSetError
from segmind_dagster.ledger import is_absent, open_ledger, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.outputs import OutputStore
    from segmind_dagster.prompts import PromptSet
    from segmind_dagster.settings import Settings


class RunContext:
    """What one run opens and reads once, whichever of its parts asks first; it is over when it is closed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._turn = RLock()
        self._open = ExitStack()
        self._folder: tuple[Ledger, OutputStore] | None = None
        self._sets: dict[str, PromptSet | PromptSetError] = {}

    def folder(self) -> tuple[Ledger, OutputStore]:
        """The ledger and the output store, see `opened`; they stay open.

        Raises:
            LedgerError: as `opened`.
        """
        with self._turn:
            if self._folder is None:
                self._folder = self._open.enter_context(opened(self.settings))
            return self._folder

    def prompt_set(self, key: str) -> PromptSet:
        """The prompt set of a key, as its file was when the run first asked.

        Raises:
            PromptSetError: as `find_prompt_set`.
        """
        # reading prompt files takes a while to import, and a run that only loads needs none
        from segmind_dagster.prompts import find_prompt_set

        with self._turn:
            if key not in self._sets:
                folders = {"prompts_dir": self.settings.prompts_dir, "project_dir": self.settings.project_dir}
                try:
                    self._sets[key] = find_prompt_set(key, **folders)
                except PromptSetError as error:
                    self._sets[key] = error
            found = self._sets[key]
        if isinstance(found, PromptSetError):
            raise found
        return found

    def close(self) -> None:
        """Let go of what is open."""
        with self._turn:
            self._folder = None
            self._open.close()


@contextmanager
def opened(settings: Settings, run: RunContext | None = None) -> Iterator[tuple[Ledger, OutputStore]]:
    """The ledger and the output store of a data folder, guarded against another origin's.

    Args:
        settings: where both are, and which origin's they are to be.
        run: the run that has them open, and keeps them so.

    Raises:
        LedgerError: the ledger cannot be opened, or is not this origin's, or is empty beside existing outputs.
    """
    if run is not None:
        yield run.folder()
        return
    outputs = _output_store(settings)
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
    if found_file := _output_store(settings).find_any():
        raise LedgerMissingError(shown(settings.ledger_url), found_file)
    with (
        TemporaryDirectory(prefix="segmind-") as folder,
        opened(replace(settings, ledger_url=f"sqlite:///{folder}/ledger.sqlite")) as found,
    ):
        yield found


def _output_store(settings: Settings) -> OutputStore:
    # imported here, because every process that loads the definitions loads this module
    from segmind_dagster.outputs import OutputStore

    return OutputStore(settings.outputs_url, scratch_dir=settings.data_dir)
