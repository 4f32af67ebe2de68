"""The states of a generation and of its attempts, and the only tables of moves between them.

The id of a generation never changes; each POST sent for it is an attempt under that id. Every existing move is here,
also the rare ones; the ledger builds its statements from these tables, so that no other move can be written. When a
move follows is decided in `next_step`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from segmind_dagster.errors import IllegalTransitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

State = Literal["planned", "submitting", "submitted", "unknown", "succeeded", "failed"]

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    # a run has claimed it and recorded the intent; the POST follows. Failed: it cannot even be sent.
    # Submitted: an earlier submission that counted as not accepted turned up in the history
    "planned": frozenset({"submitting", "failed", "submitted"}),
    # back to planned only when the POST was certainly not accepted
    "submitting": frozenset({"submitted", "planned", "failed", "unknown"}),
    # back to planned only when the provider says the job failed, which is free
    "submitted": frozenset({"succeeded", "failed", "planned"}),
    # found in the provider's history, or absent from it
    "unknown": frozenset({"submitted", "planned"}),
    # unpaid failures may be retried; paid ones may be fetched again, also those charged after all
    "failed": frozenset({"planned", "submitted"}),
    "succeeded": frozenset(),
}

AttemptState = Literal[
    "submitting", "submitted", "unknown", "succeeded", "failed", "absent", "written_off", "duplicate"
]
"""Intent recorded; accepted; outcome not seen; stored; failed; inferred never to have arrived; paid, and given up by a
person to be bought again; found charged after the generation was bought again."""

ATTEMPT_TRANSITIONS: Final[Mapping[AttemptState, frozenset[AttemptState]]] = {
    "submitting": frozenset({"submitted", "unknown", "failed"}),
    "unknown": frozenset({"submitted", "absent", "failed"}),
    "submitted": frozenset({"succeeded", "failed"}),
    # fetched after all; charged after an answer that said otherwise; given up by a person
    "failed": frozenset({"succeeded", "failed", "submitted", "duplicate", "written_off"}),
    # a later reading of the history shows that it arrived
    "absent": frozenset({"submitted", "duplicate"}),
    "succeeded": frozenset(),
    "written_off": frozenset(),
    "duplicate": frozenset(),
}

IN_PROGRESS: Final[tuple[State, ...]] = ("submitting", "submitted", "unknown")

# failure kind of a charged attempt whose output a person wrote off: the next charge is wanted
WRITTEN_OFF: Final = "written_off"


def check_transition(generation_id: str, current: State, target: State) -> None:
    """Refuse a move that is not in the table.

    Raises:
        IllegalTransitionError: the move is not allowed.
    """
    if target not in TRANSITIONS[current]:
        raise IllegalTransitionError(generation_id, current, target)


def origins(target: State) -> list[State]:
    """The states of a generation from which a move leads to this one, in the order of the table."""
    return [state for state, targets in TRANSITIONS.items() if target in targets]


def attempt_origins(target: AttemptState) -> list[AttemptState]:
    """The states of an attempt from which a move leads to this one, in the order of the table."""
    return [state for state, targets in ATTEMPT_TRANSITIONS.items() if target in targets]
