"""The states of a generation, and the only table of moves between them.

A generation keeps its id for ever; each POST sent for it is an attempt, which is data under that id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from segmind_dagster.errors import IllegalTransitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

State = Literal["planned", "submitting", "submitted", "unknown", "succeeded", "failed"]

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    # a run has claimed it and recorded the intent; the POST follows. Failed: it cannot even be sent
    "planned": frozenset({"submitting", "failed"}),
    # back to planned only when the POST was certainly not accepted
    "submitting": frozenset({"submitted", "planned", "failed", "unknown"}),
    # back to planned only when the provider says the job failed, which is free
    "submitted": frozenset({"succeeded", "failed", "planned"}),
    # found in the provider's history, or provably absent from it
    "unknown": frozenset({"submitted", "planned"}),
    # unpaid failures may be tried again; paid ones may be fetched again
    "failed": frozenset({"planned", "submitted"}),
    "succeeded": frozenset(),
}

IN_PROGRESS: Final[tuple[State, ...]] = ("submitting", "submitted", "unknown")

# failure kind of an attempt that was charged, and whose output a person wrote off: the next charge is wanted
WRITTEN_OFF: Final = "written_off"


def check_transition(generation_id: str, current: State, target: State) -> None:
    """Refuse a move that the table does not hold.

    Raises:
        IllegalTransitionError: the move is not allowed.
    """
    if target not in TRANSITIONS[current]:
        raise IllegalTransitionError(generation_id, current, target)
