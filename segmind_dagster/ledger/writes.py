"""The rarer state changes: failed, unknown, taken over, reopened; run through `commits`.

Each names its claim, so that a run which lost its claim changes nothing. Refusals come before the first write of an
operation. The moves of every bought generation are in `moves`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

from segmind_dagster.errors import IllegalTransitionError, LostOwnershipError
from segmind_dagster.ledger import statements
from segmind_dagster.ledger.claims import change, change_all, generations, move, move_all, refusals_of
from segmind_dagster.ledger.money import Totals, missing, report_prices, reservations
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, whole_nanos
from segmind_dagster.lifecycle.failures import policy_of
from segmind_dagster.lifecycle.generation import Claim
from segmind_dagster.lifecycle.parsing import FREE
from segmind_dagster.lifecycle.states import IN_PROGRESS, WRITTEN_OFF, State, check_transition

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy import Connection

    from segmind_dagster.ledger.records import Charge
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.lifecycle.states import AttemptState


def mark_unknown(
    connection: Connection, held: Claim, *, failure_kind: str, error: str, http_status: int | None, now: datetime
) -> None:
    """It is unknown whether the POST was accepted: `submitting` to `unknown`, its cost still reserved."""
    reason = {"failure_kind": failure_kind, "error": error}
    attempt = {**reason, "http_status": http_status}
    _move(connection, held, "unknown", {**reason, "updated_at": now}, attempt, attempt_target="unknown")


def mark_failed(
    connection: Connection,
    held: Claim,
    *,
    target: State,
    failure_kind: str,
    error: str,
    http_status: int | None,
    cost_usd: Decimal | None,
    now: datetime,
    cost_source: str = "reported",
    estimate_usd: Decimal | None = None,
    attempt_target: AttemptState = "failed",
) -> Charge:
    """The attempt failed: the generation goes to `failed`, or back to `planned` for another attempt.

    Args:
        connection: the ledger.
        held: the claim.
        target: `failed` or `planned`.
        failure_kind: a kind of `lifecycle.failures`.
        error: what was seen, for people.
        http_status: of the answer, if there was one.
        cost_usd: what the attempt cost; None when it was paid and the price is not known.
        now: the time.
        cost_source: who reported the cost.
        estimate_usd: what counts as charged when no cost was reported; what is reserved when None.
        attempt_target: the state of the attempt.

    Returns what it cost.
    """
    reserved = reservations(connection, [held]).get(held)
    if reserved is None:
        raise missing(held)
    charge = reserved.settled(cost_usd, source=cost_source, estimate_usd=estimate_usd)
    reason = {"failure_kind": failure_kind, "error": error}
    money = {"cost_usd": charge.usd, "cost_source": charge.source}
    attempt = {**reason, **money, "http_status": http_status, "completed_at": now}
    values = {**reason, **(money if charge.usd or reserved.is_charged else {}), "owner": None, "updated_at": now}
    _move(connection, held, target, values, attempt, attempt_target=attempt_target)
    totals = Totals(connection)
    totals.add(reserved.scopes, charge.usd - reserved.amount_usd)
    totals.write()
    report_prices(connection, [(reserved.model_slug, cost_usd, now)])
    return charge


def refuse_unsent(connection: Connection, generation_id: str, *, failure_kind: str, error: str, now: datetime) -> None:
    """It cannot be sent, and a retry cannot help: `planned` to `failed`, without an attempt."""
    check_transition(generation_id, "planned", "failed")
    connection.execute(
        update(GENERATIONS)
        .where(GENERATIONS.c.generation_id == generation_id, GENERATIONS.c.state == "planned")
        .values(state="failed", failure_kind=failure_kind, error=error, updated_at=now)
    )


def mark_absent(connection: Connection, held: Claim, *, reason: str, now: datetime) -> None:
    """The POST is inferred never to have arrived: `unknown` to `planned`, its reservation freed.

    That is not reported, so its attempt is `absent` and looked for again; see `charge_late`.
    """
    row = generations(connection, [held.generation_id]).get(held.generation_id)
    if row is None or row.state != "unknown":
        raise IllegalTransitionError(held.generation_id, str(row and row.state), "planned")
    mark_failed(
        connection, held, target="planned", failure_kind="unknown_outcome",
        error=reason, http_status=None, cost_usd=FREE, now=now, cost_source="inferred", attempt_target="absent",
    )  # fmt: skip


def charge_late(
    connection: Connection,
    generation_id: str,
    attempt: int,
    *,
    request_id: str,
    created_at: datetime | None,
    cost_usd: Decimal | None,
    now: datetime,
) -> AttemptState | None:
    """An attempt that counted as never accepted is found in the history: charge it, and adopt it if it is needed.

    A generation that was not bought again meanwhile goes to `submitted`, so that its output is fetched, and the attempt
    becomes its last one; else the attempt is a `duplicate`. While the request may belong to a later attempt, the run of
    that attempt looks for it, and nothing changes.

    Args:
        connection: the ledger.
        generation_id: the generation.
        attempt: number of the attempt.
        request_id: Segmind's id of it.
        created_at: when Segmind says it was made.
        cost_usd: charged, by the history; None when it does not say.
        now: the time.

    Returns the state of the attempt; None when it, or the request, was accounted for meanwhile, or may be by the run
    that has sent a later one.
    """
    owner = connection.execute(select(ATTEMPTS.c.attempt).where(ATTEMPTS.c.request_id == request_id)).first()
    if owner is not None:
        return None
    row = connection.execute(
        select(
            ATTEMPTS.c.state, ATTEMPTS.c.intent_at, ATTEMPTS.c.reserved_usd,
            GENERATIONS.c.state.label("generation_state"), GENERATIONS.c.attempts, GENERATIONS.c.failure_kind,
        )
        .join_from(ATTEMPTS, GENERATIONS, ATTEMPTS.c.generation_id == GENERATIONS.c.generation_id)
        .where(
            ATTEMPTS.c.generation_id == generation_id, ATTEMPTS.c.attempt == attempt, ATTEMPTS.c.request_id.is_(None)
        )
    ).one_or_none()  # fmt: skip
    if row is None or row.state not in {"absent", "failed"} or row.generation_state in {"submitting", "unknown"}:
        return None
    is_wanted = row.generation_state == "planned" or (
        row.generation_state == "failed" and not policy_of(row.failure_kind).may_be_paid
    )
    if is_wanted and attempt != row.attempts:
        _swap_attempts(connection, generation_id, attempt, row.attempts)
        attempt = row.attempts
    target: AttemptState = "submitted" if is_wanted else "duplicate"
    held = Claim(generation_id, attempt, "")
    reserved = reservations(connection, [held])[held]
    submitted_at = created_at or row.intent_at
    charged_usd = whole_nanos(cost_usd) if cost_usd is not None else None
    source: str | None = "history"
    if charged_usd is None:
        # its cost is recorded when it is stored; a duplicate is never stored
        charged_usd, source = (None, None) if is_wanted else (row.reserved_usd, "estimated")
    values = {
        "request_id": request_id,
        "submitted_at": submitted_at,
        "failure_kind": None if is_wanted else "unknown_outcome",
        "error": None if is_wanted else "It turned up in Segmind's history after the generation was bought again.",
        "cost_usd": charged_usd,
        "cost_source": source,
    }
    change_all(
        connection, statements.move_attempt(target, tuple(sorted(values))), [change(held, values)]
    )  # fmt: skip
    if is_wanted:
        check_transition(generation_id, row.generation_state, "submitted")
        connection.execute(
            update(GENERATIONS)
            .where(GENERATIONS.c.generation_id == generation_id, GENERATIONS.c.state == row.generation_state)
            .values(
                state="submitted", owner=None, request_id=request_id, submitted_at=submitted_at,
                failure_kind=None, error=None, updated_at=now,
            )
        )  # fmt: skip
    committed_usd = row.reserved_usd if charged_usd is None else charged_usd
    totals = Totals(connection)
    totals.add(reserved.scopes, committed_usd - reserved.amount_usd)
    totals.write()
    report_prices(connection, [(reserved.model_slug, cost_usd, now)])
    return target


def _swap_attempts(connection: Connection, generation_id: str, one: int, other: int) -> None:
    """Exchange the numbers of two attempts: the one that delivers the output has to be the last."""
    unused = 0
    for old, new in ((one, unused), (other, one), (unused, other)):
        connection.execute(
            update(ATTEMPTS)
            .where(ATTEMPTS.c.generation_id == generation_id, ATTEMPTS.c.attempt == old)
            .values(attempt=new)
        )


def reopen(
    connection: Connection,
    seen: Mapping[str, tuple[str | None, int]],
    *,
    target: State,
    now: datetime,
) -> int:
    """Reopen failed generations: as `planned` to buy, as `submitted` to fetch what was paid for.

    Args:
        connection: the ledger.
        seen: kind of failure and number of attempts of each when that was decided, by generation id.
            One that has failed in another way since, or was sent again, stays as it is: it may be paid for by now.
        target: `planned` or `submitted`.
        now: the time.

    Returns how many of them were failed in that way, and are not any more.
    """
    check_transition(", ".join([*seen][:3]), "failed", target)
    if not seen:
        return 0
    return connection.execute(
        update(GENERATIONS)
        .where(
            GENERATIONS.c.generation_id == bindparam("id_"),
            GENERATIONS.c.state == "failed",
            GENERATIONS.c.failure_kind.is_not_distinct_from(bindparam("kind_", type_=GENERATIONS.c.failure_kind.type)),
            GENERATIONS.c.attempts == bindparam("attempts_"),
        )
        .values(state=target, owner=None, updated_at=now),
        [{"id_": key, "kind_": kind, "attempts_": attempts} for key, (kind, attempts) in sorted(seen.items())],
    ).rowcount


def write_off(connection: Connection, given: Generation, *, now: datetime) -> None:
    """A person writes off a paid output that cannot be fetched, to buy it again: `failed` to `planned`.

    Its attempt records that, so that the next charge is known to be wanted.

    Args:
        connection: the ledger.
        given: the generation as the person saw it.
        now: the time.

    Raises:
        LostOwnershipError: another run was first.
    """
    seen = (given.state, given.failure_kind, given.attempts)
    columns = (GENERATIONS.c.state, GENERATIONS.c.failure_kind, GENERATIONS.c.attempts)
    row = connection.execute(select(*columns).where(GENERATIONS.c.generation_id == given.generation_id)).one_or_none()
    if row is None or tuple(row) != seen:
        raise LostOwnershipError(given.generation_id)
    reopen(connection, {given.generation_id: (given.failure_kind, given.attempts)}, target="planned", now=now)
    said = f"A person wrote its output off, to buy it again. Before that: {given.failure_kind}, {given.error or ''}"
    values = {"failure_kind": WRITTEN_OFF, "error": said}
    attempt = change(Claim(given.generation_id, given.attempts, ""), values)
    change_all(connection, statements.move_attempt("written_off", tuple(sorted(values))), [attempt])


def take_over(connection: Connection, *, generation_id: str, old_owner: str | None, owner: str, now: datetime) -> Claim:
    """Take over a submission of a dead run.

    A `submitting` becomes `unknown`, never `planned`: its POST may have been accepted.

    Raises:
        LostOwnershipError: another run was first.
    """
    row = generations(connection, [generation_id]).get(generation_id)
    if row is None or row.owner != old_owner or row.state not in IN_PROGRESS:
        raise LostOwnershipError(generation_id)
    state: State = "unknown" if row.state == "submitting" else row.state
    if state != row.state:
        check_transition(generation_id, row.state, state)
    error = "The run that sent this submission stopped before it saw the answer."
    values = {"failure_kind": "unknown_outcome", "error": error} if state != row.state else {}
    changed = connection.execute(
        update(GENERATIONS)
        .where(
            GENERATIONS.c.generation_id == generation_id,
            GENERATIONS.c.owner.is_not_distinct_from(old_owner),
            GENERATIONS.c.state == row.state,
        )
        .values(owner=owner, state=state, updated_at=now, **values)
    )
    if changed.rowcount == 0:
        raise LostOwnershipError(generation_id)
    held = Claim(generation_id, row.attempts, owner)
    if values:
        change_all(connection, statements.move_attempt("unknown", tuple(sorted(values))), [change(held, values)])
    return held


def let_go(connection: Connection, generation_id: str, *, owner: str, now: datetime) -> None:
    """Release submissions of a run, so that others can continue with them before it ends."""
    connection.execute(
        update(GENERATIONS)
        .where(
            GENERATIONS.c.generation_id == generation_id,
            GENERATIONS.c.owner == owner,
            GENERATIONS.c.state.in_(IN_PROGRESS),
        )
        .values(owner=None, updated_at=now)
    )


def _move(
    connection: Connection,
    held: Claim,
    target: State,
    values: Mapping[str, Any],
    attempt: Mapping[str, Any],
    *,
    attempt_target: AttemptState,
) -> None:
    """Move one generation and change its attempt.

    Raises:
        LostOwnershipError: another run has it by now.
        IllegalTransitionError: it is in no state that allows it.
    """
    if (refusal := refusals_of(connection, [held], target).get(held)) is not None:
        raise refusal
    move_all(connection, target, [move(held, values)], [change(held, attempt)], attempt_target=attempt_target)
