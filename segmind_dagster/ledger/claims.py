"""Checks claims, then changes their generations and attempts.

Used by every change of state; which changes there are is in `moves` and `writes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import IllegalTransitionError, LedgerError, LostOwnershipError
from segmind_dagster.ledger import statements
from segmind_dagster.lifecycle.states import TRANSITIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import Connection, Executable

    from segmind_dagster.errors import SegmindDagsterError
    from segmind_dagster.lifecycle.generation import Claim
    from segmind_dagster.lifecycle.states import AttemptState, State


def generations(connection: Connection, ids: Collection[str]) -> dict[str, Any]:
    """Owner and state of these generations, by id."""
    return {row.generation_id: row for row in connection.execute(statements.STATES, {"ids": sorted(set(ids))})}


def refusals_of(connection: Connection, held: Sequence[Claim], target: State) -> dict[Claim, SegmindDagsterError]:
    """Errors of the claims that do not allow a move to a state, by claim."""
    rows = generations(connection, [each.generation_id for each in held])
    found: dict[Claim, SegmindDagsterError] = {}
    for each in held:
        row = rows.get(each.generation_id)
        if row is None:
            found[each] = LedgerError(f"Generation {each.generation_id} is not in the ledger.")
        elif row.owner != each.owner or row.attempts != each.attempt:
            found[each] = LostOwnershipError(each.generation_id)
        elif target not in TRANSITIONS[row.state]:
            found[each] = IllegalTransitionError(each.generation_id, row.state, target)
    return found


def change(held: Claim, values: Mapping[str, Any], **further: Any) -> dict[str, Any]:
    """New values, by column, for the attempt of a claim."""
    return {"held_id": held.generation_id, "held_attempt": held.attempt, **statements.new({**values, **further})}


def move(held: Claim, values: Mapping[str, Any], **further: Any) -> dict[str, Any]:
    """New values, by column, for the generation of a claim."""
    return {**change(held, values, **further), "held_owner": held.owner}


def move_all(
    connection: Connection,
    target: State,
    moves: Sequence[Mapping[str, Any]],
    changes: Sequence[Mapping[str, Any]],
    *,
    attempt_target: AttemptState,
) -> None:
    """Move generations, and their attempts, to a state that their claims allow.

    Args:
        connection: the ledger.
        target: the state.
        moves: what becomes of the generations, each made by `move`, of the same columns.
        changes: what becomes of their attempts, each made by `change`, of the same columns.
        attempt_target: the state of the attempts.
    """
    if moves:
        change_all(connection, statements.move(target, statements.names_in(moves[0])), moves)
        change_all(connection, statements.move_attempt(attempt_target, statements.names_in(changes[0])), changes)


def change_all(connection: Connection, statement: Executable, rows: Sequence[Mapping[str, Any]]) -> None:
    """Run a statement that must change one row for each set of parameters.

    Raises:
        RuntimeError: it changed another number; this rolls back the whole transaction.
    """
    changed = connection.execute(statement, rows)
    if changed.rowcount != len(rows):
        raise RuntimeError(f"{changed.rowcount} of {len(rows)} rows of the ledger changed as they should.")
