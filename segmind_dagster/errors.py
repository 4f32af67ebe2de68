"""Every error this project raises on purpose.

SegmindDagsterError
├── SettingsError              a setting is missing, malformed or contradicts another
├── RegistryError              a model that the registry does not know
├── PromptSetError             one prompt file or more cannot be used; carries every problem found
├── GatewayError               an HTTP exchange with Segmind did not give what it should
├── OutputError                bytes that must not be stored under a good name
├── BudgetError                a cap would be exceeded, or a price needed for a cap is unknown
├── DatasetOriginError         the warehouse's dataset belongs to another API or account
├── LedgerError
│   ├── IllegalTransitionError a state change the transition table does not allow
│   ├── LostOwnershipError     another run owns the generation now
│   ├── RequestOwnedError      a request id belongs to another generation or attempt
│   ├── OriginMismatchError    the data folder belongs to another API origin
│   ├── LedgerMissingError     outputs or rows exist, but the ledger is empty
│   ├── LedgerGoneError        the ledger's file disappeared while it was open
│   └── LedgerOutdatedError    outputs exist of generations that the ledger would buy
├── ExportError                a dataset cannot be written where it should be
├── DestinationError           the warehouse cannot be used, or refused a load
└── LoadLockError              another loader kept the lock for too long

Messages say what was attempted, what was seen and what to do; the details are attributes as well.
What Segmind answered is classified in `lifecycle.failures`, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def interrupted(progress: str) -> str:
    """The message for a person who interrupts a run, in place of an exception without words.

    Args:
        progress: how far it had come, with its cost.
    """
    return (
        f"Interrupted ({progress}). Nothing more is submitted. What was submitted may have been charged and is "
        "recorded: the next run, or `segmind-dagster collect`, fetches it and does not pay again; `segmind-dagster "
        "status` shows the money."
    )


class SegmindDagsterError(Exception):
    """Base of all errors raised on purpose by this project."""


class SettingsError(SegmindDagsterError):
    """A setting is missing, malformed, or contradicts another one.

    Args:
        setting: name of the environment variable or TOML key at fault.
        message: what is wrong and what to do.
    """

    def __init__(self, setting: str, message: str) -> None:
        self.setting = setting
        super().__init__(f"{setting}: {message}")


class RegistryError(SegmindDagsterError):
    """A model that no registry entry describes.

    Args:
        name: the slug or resource name asked for.
        known: the names that exist.
    """

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(
            f"Model {name!r} is not in the registry. Known models: {', '.join(self.known)}. "
            "To add one, see 'Add a model' in README.md."
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a prompt file.

    Args:
        file: name of the file, relative to the prompts folder.
        message: what is wrong and what to do.
        field: dotted name of the field at fault, e.g. `prompts[2].params.steps`.
        line: line of a text file, 1-based.
        row: data row of a CSV or JSONL file, 1-based.
    """

    file: str
    message: str
    field: str | None = None
    line: int | None = None
    row: int | None = None

    def __str__(self) -> str:
        place = self.file
        if self.row is not None:
            place += f", row {self.row}"
        elif self.line is not None:
            place += f", line {self.line}"
        if self.field:
            place += f", {self.field}"
        return f"{place}: {self.message}"


class PromptSetError(SegmindDagsterError):
    """Prompt files that cannot be used; nothing was submitted.

    Args:
        problems: every problem found, not only the first.
    """

    SHOWN = 20

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        shown = "\n".join(f"  - {problem}" for problem in self.problems[: self.SHOWN])
        more = len(self.problems) - self.SHOWN
        rest = f"\n  ... and {more} more" if more > 0 else ""
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__(f"{count} in the prompt files; nothing was submitted:\n{shown}{rest}")


class OutputError(SegmindDagsterError):
    """Bytes that are not the output they should be; nothing was stored under a good name.

    Args:
        reason: what was seen, in a few words.
        is_permanent: whether fetching the same URL again cannot help.
        is_cut: whether only the beginning of the bytes was taken, because there were more than are accepted.
    """

    def __init__(self, reason: str, *, is_permanent: bool = False, is_cut: bool = False) -> None:
        self.reason = reason
        self.is_permanent = is_permanent
        self.is_cut = is_cut
        super().__init__(reason)


class BudgetError(SegmindDagsterError):
    """A cap stands in the way; nothing was submitted beyond it.

    Args:
        message: which cap, what is spent and reserved, what is needed, how to raise it.
        scope: whose cap: `set`, `run` or `day`; None when it stood in the way of a whole plan.
        is_final: whether nothing that ends can free headroom.
        awaits_others: whether what another run has in progress may free headroom when it ends.
        awaits_report: whether costs that are not reported yet do.
    """

    def __init__(
        self,
        message: str,
        *,
        scope: str | None = None,
        is_final: bool = True,
        awaits_others: bool = False,
        awaits_report: bool = False,
    ) -> None:
        self.scope = scope
        self.is_final = is_final
        self.awaits_others = awaits_others
        self.awaits_report = awaits_report
        super().__init__(message)


class LedgerError(SegmindDagsterError):
    """The ledger cannot do what was asked."""


class IllegalTransitionError(LedgerError):
    """A state change that the transition table does not allow."""

    def __init__(self, generation_id: str, current: str, target: str) -> None:
        self.generation_id = generation_id
        self.current = current
        self.target = target
        super().__init__(f"Generation {generation_id} cannot go from '{current}' to '{target}'.")


class LostOwnershipError(LedgerError):
    """The generation belongs to another run now; this run must not touch it."""

    def __init__(self, generation_id: str) -> None:
        self.generation_id = generation_id
        super().__init__(f"Generation {generation_id} is owned by another run now.")


class RequestOwnedError(LedgerError):
    """A request of the provider belongs to another generation, or to an earlier attempt; nothing was changed.

    Args:
        request_id: the provider's id.
        generation_id: the generation that has it.
    """

    def __init__(self, request_id: str, generation_id: str) -> None:
        self.request_id = request_id
        self.generation_id = generation_id
        super().__init__(f"Request {request_id} belongs to generation {generation_id} already.")


class OriginMismatchError(LedgerError):
    """The data folder holds results of another API origin.

    Args:
        recorded: origin the ledger belongs to.
        configured: origin of this run.
        place: the ledger, in a form safe to show.
    """

    def __init__(self, recorded: str, configured: str, place: str) -> None:
        self.recorded = recorded
        self.configured = configured
        super().__init__(
            f"The ledger at {place} belongs to {recorded}, but this run is configured for {configured}. "
            "Results of one origin never answer requests to another: set SEGMIND_DATA_DIR to another folder, "
            "or SEGMIND_API_URL back."
        )


class DatasetOriginError(SegmindDagsterError):
    """The warehouse's dataset holds rows of another API or account.

    Args:
        recorded: origin the dataset belongs to.
        configured: origin of this load.
    """

    def __init__(self, recorded: str, configured: str) -> None:
        self.recorded = recorded
        self.configured = configured
        super().__init__(
            f"The dataset belongs to {recorded}, and these rows are of {configured}; nothing was loaded, because rows "
            "of one would replace those of the other. The ledger keeps them: name another database in "
            "SEGMIND_DESTINATION or its credentials, then `segmind-dagster reload`, which buys nothing."
        )


class LedgerMissingError(LedgerError):
    """The ledger is empty although outputs exist, so payments may be forgotten.

    Args:
        ledger: the ledger, in a form safe to show.
        outputs: where outputs were found.
    """

    def __init__(self, ledger: str, outputs: str) -> None:
        super().__init__(
            f"The ledger at {ledger} is empty, but {outputs} holds outputs that were paid for. Starting from an "
            "empty ledger could pay for them again. Run `segmind-dagster rebuild`, which restores it free of charge, "
            "or set SEGMIND_DATA_DIR to a new folder."
        )


class LedgerGoneError(LedgerError):
    """The ledger's file was deleted, moved or replaced while it was open; nothing more can be recorded."""

    def __init__(self, path: str, seen: str) -> None:
        self.path = path
        self.seen = seen
        super().__init__(
            f"The ledger {path} disappeared while it was in use ({seen}): the file was deleted, moved or replaced, or "
            "its folder is no longer mounted. Nothing more is submitted. Put the same file back, together with its "
            "-wal and -shm files; if it is lost, run `segmind-dagster rebuild`, which restores from the outputs and "
            "from Segmind's history what was paid for. Then materialize again."
        )


class LedgerOutdatedError(LedgerError):
    """Outputs are stored of generations that the ledger would buy: it is older than they are."""

    def __init__(self, generation_ids: Sequence[str], outputs: str) -> None:
        self.generation_ids = tuple(generation_ids)
        super().__init__(
            f"Nothing was submitted: {outputs} holds the outputs of {len(generation_ids)} generations that the ledger "
            f"would buy ({', '.join(self.generation_ids[:3])}{', ...' * (len(generation_ids) > 3)}), so the ledger is "  # noqa: PLR2004  as many as are shown
            "older than the outputs, as after restoring a backup. Run `segmind-dagster rebuild`, which brings it up to "
            "date free of charge; if these outputs are not wanted, move them and their .facts.json away."
        )


class ExportError(SegmindDagsterError):
    """A dataset that cannot be exported; nothing was written under its name."""


class DestinationError(SegmindDagsterError):
    """The warehouse cannot be reached or configured, or refused what was loaded."""

    def __init__(self, destination: str, reason: str, *, is_before_submitting: bool = False) -> None:
        self.destination = destination
        self.reason = reason
        what_now = (
            "Nothing was submitted."
            if is_before_submitting
            else "Every result is in the ledger and its file is stored: once this is mended, `segmind-dagster reload` "
            "loads them all, and so does the next run of their sets; nothing is paid for twice."
        )
        super().__init__(f"The destination {destination!r} cannot be used: {reason.rstrip('.')}. {what_now}")


class LoadLockError(SegmindDagsterError):
    """Another loader kept the load lock for longer than this one may wait.

    Args:
        holder: who holds it, as far as is known.
        waited_s: how long this loader waited.
    """

    def __init__(self, holder: str, waited_s: float) -> None:
        self.holder = holder
        self.waited_s = waited_s
        super().__init__(
            f"Waited {waited_s:.0f} s for the load lock; it is held by {holder}. Every generated result is safe in "
            "the ledger: materialize again once that process has finished, nothing is paid for twice."
        )
