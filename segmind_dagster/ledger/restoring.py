"""Restores lost ledger rows: generations with their attempts, memberships and money, in one transaction.

Only adds: existing rows are never changed, except plans that no run acted on, and generations whose stored output
shows that the ledger is older than its outputs. `recovery` finds out what to restore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, select

from segmind_dagster.ledger import moves, writes
from segmind_dagster.ledger.entries import note
from segmind_dagster.ledger.money import Totals
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, META, SET_GENERATIONS, whole_nanos
from segmind_dagster.ledger.statements import ENTER_ATTEMPT, in_chunks, upsert
from segmind_dagster.lifecycle.budget import Caps, ScopeNames
from segmind_dagster.lifecycle.generation import Accounting, Attempt, Output

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Column, Connection

REBUILT_AT: Final = "rebuilt_at"
"""Key in `meta`: when a rebuild last succeeded, ISO 8601. What was listed by then is adopted, or left in doubt."""

REBUILD_REFUSED: Final = "rebuild_refused"
"""Key in `meta`: why the last rebuild restored nothing, until one succeeds."""

_IS_UNTOUCHED = (GENERATIONS.c.state == "planned") & (GENERATIONS.c.attempts == 0)
_REPLACED = tuple(column.name for column in GENERATIONS.c if not column.primary_key)


def note_refusal(connection: Connection, reason: str) -> None:
    """Record that a rebuild restored nothing: nothing is bought before one succeeds."""
    note(connection, {REBUILD_REFUSED: reason})


def restore(
    connection: Connection,
    *,
    api_origin: str,
    generations: Sequence[Mapping[str, Any]],
    attempts: Mapping[str, Sequence[Mapping[str, Any]]],
    memberships: Sequence[Mapping[str, Any]],
    paid_failures: Collection[str],
    doubtful: Collection[str],
    now: datetime,
) -> frozenset[str]:
    """Restore lost rows and the origin of a ledger in one transaction.

    An existing generation stays as it is, unless it was only planned and never sent, or the ledger does not know that
    it was bought: then it moves to its real state.

    Args:
        connection: the ledger.
        api_origin: where everything came from.
        generations: rows of `generations`, every column.
        attempts: rows of `attempts` by generation id, every column.
        memberships: rows of `set_generations`.
        paid_failures: kinds of failure that were charged: those are collected, not moved on.
        doubtful: generations that a request of the history may be for: those are not bought before that is decided.
        now: the time; from then on an empty ledger beside outputs is no surprise.

    Returns the ids of the generations that were entered or moved on.
    """
    note(connection, {"api_origin": api_origin, REBUILT_AT: now.isoformat()})
    connection.execute(delete(META).where(META.c.key == REBUILD_REFUSED))
    held = _present(connection, GENERATIONS.c.generation_id, [row["generation_id"] for row in generations]) - _present(
        connection, GENERATIONS.c.generation_id, [row["generation_id"] for row in generations], _IS_UNTOUCHED
    )
    sent = [attempt["request_id"] for each in attempts.values() for attempt in each if attempt["request_id"]]
    owned = _present(connection, ATTEMPTS.c.request_id, sent)
    entered = [
        row
        for row in generations
        # a request that belongs to another generation in the ledger is not fetched twice
        if row["generation_id"] not in held
        and owned.isdisjoint(attempt["request_id"] for attempt in attempts[row["generation_id"]])
    ]
    ids = frozenset(row["generation_id"] for row in entered)
    late = [
        row
        for row in generations
        if row["generation_id"] in held
        and (row["state"] in {"succeeded", "submitted"} or row["generation_id"] in doubtful)
        and owned.isdisjoint([attempts[row["generation_id"]][-1]["request_id"]])
        and _move_on(connection, row, attempts[row["generation_id"]][-1], paid_failures=paid_failures, now=now)
    ]
    dialect_name = connection.dialect.name
    if entered:
        connection.execute(upsert(dialect_name, GENERATIONS, *_REPLACED, where=_IS_UNTOUCHED), entered)
    restored = [attempt for row in entered for attempt in attempts[row["generation_id"]]]
    if restored:
        connection.execute(ENTER_ATTEMPT, restored)
    ids |= {row["generation_id"] for row in late}
    asked = [row for row in memberships if row["generation_id"] in ids]
    if asked:
        connection.execute(upsert(dialect_name, SET_GENERATIONS), asked)
    totals = Totals(connection)
    for attempt in restored:
        scopes = ScopeNames(
            attempt["intent_at"].date().isoformat(), attempt["run_id"] or attempt["owner"], attempt["prompt_set"]
        )
        totals.add(scopes, whole_nanos(attempt["reserved_usd" if attempt["cost_usd"] is None else "cost_usd"]))
    totals.write()
    return ids


def _move_on(
    connection: Connection,
    row: Mapping[str, Any],
    attempt: Mapping[str, Any],
    *,
    paid_failures: Collection[str],
    now: datetime,
) -> bool:
    """Move a generation that is planned, or failed free of charge, in the ledger to its real state."""
    generation_id = row["generation_id"]
    columns = GENERATIONS.c
    query = select(columns.state, columns.failure_kind, columns.attempts).where(columns.generation_id == generation_id)
    known = connection.execute(query).one()
    is_unpaid = known.state == "failed" and known.failure_kind not in paid_failures
    if known.state != "planned" and not is_unpaid:
        return False
    if is_unpaid:
        writes.reopen(connection, {generation_id: (known.failure_kind, known.attempts)}, target="planned", now=now)
    held = moves.claim(
        connection,
        generation_id=generation_id,
        owner=attempt["owner"],
        run_id=attempt["run_id"],
        prompt_set=attempt["prompt_set"],
        reserved_usd=attempt["reserved_usd"],
        caps=Caps(),
        rate_wait_ms=attempt["rate_wait_ms"],
        now=attempt["intent_at"],
    )
    if row["state"] == "unknown":
        moves_on = {"failure_kind": attempt["failure_kind"], "error": attempt["error"]}
        writes.mark_unknown(connection, held, http_status=None, now=now, **moves_on)
        writes.let_go(connection, generation_id, owner=attempt["owner"], now=now)
        return True
    sent_at = attempt["submitted_at"] or attempt["intent_at"]
    moves.mark_submitted(
        connection, held, request_id=attempt["request_id"], http_status=attempt["http_status"], now=sent_at
    )
    if row["state"] == "submitted":
        writes.let_go(connection, generation_id, owner=attempt["owner"], now=now)
        return True
    stored = Attempt(
        claim=held,
        request_id=attempt["request_id"],
        accounting=Accounting(
            cost_usd=None if attempt["cost_source"] == "estimated" else attempt["cost_usd"],
            queue_ms=attempt["queue_ms"],
            inference_ms=attempt["inference_ms"],
            seed=row["seed"],
        ),
        cost_source=attempt["cost_source"] or "estimated",
        output=Output(
            uri=row["output_uri"],
            sha256=row["output_sha256"],
            size_bytes=row["output_bytes"],
            format=row["output_format"],
            width=row["width"],
            height=row["height"],
        ),
        provider_sha256=row["provider_sha256"],
        latency_ms=attempt["latency_ms"],
        completed_at=attempt["completed_at"] or now,
    )
    moves.mark_succeeded(connection, stored)
    return True


def _present(connection: Connection, column: Column[Any], values: Sequence[str], *conditions: Any) -> set[Any]:
    """Which of these values are in a column."""
    found: set[Any] = set()
    for chunk in in_chunks(values):
        query = select(column).where(column.in_(chunk), *conditions)
        found.update(connection.execute(query).scalars())
    return found
