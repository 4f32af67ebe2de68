"""Every change to the ledger, as functions of one connection; run them through `commits`.

Each move names the states it may leave and the claim it acts for, so that a run which lost its claim
changes nothing. Refusals come before the first write of an operation.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, func, select, update

from segmind_dagster.errors import BudgetError, IllegalTransitionError, LedgerError, LostOwnershipError
from segmind_dagster.ledger import statements
from segmind_dagster.ledger.records import Claim
from segmind_dagster.ledger.schema import GENERATIONS, whole_nanos
from segmind_dagster.ledger.states import IN_PROGRESS, State, check_transition

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from segmind_dagster.ledger.records import Caps, Outcome

_FREE = Decimal(0)


def claim(
    connection: Connection,
    *,
    generation_id: str,
    owner: str,
    run_id: str | None,
    prompt_set: str,
    reserved_usd: Decimal,
    caps: Caps,
    rate_wait_ms: int,
    now: datetime,
) -> Claim:
    """Take a planned generation for one POST and reserve its cost: `planned` to `submitting`.

    Args:
        connection: the ledger.
        generation_id: the generation.
        owner: the run that sends it.
        run_id: Dagster's id of that run, whose cap it counts against; the owner's own when None.
        prompt_set: the set that pays.
        reserved_usd: what it may cost.
        caps: the limits on money.
        rate_wait_ms: how long it waited for the request rate.
        now: the time.

    Raises:
        BudgetError: a cap would be exceeded.
        LostOwnershipError: another run was first.
    """
    purses = {"day": now.date().isoformat(), "run": run_id or owner, "set": prompt_set}
    reserved_usd = whole_nanos(reserved_usd)
    try:
        _check_caps(connection, caps, purses, reserved_usd)
    except BudgetError:
        if _state(connection, generation_id) != "planned":
            raise LostOwnershipError(generation_id) from None
        raise
    attempt = connection.execute(
        statements.CLAIM,
        {
            "held_id": generation_id,
            "new_owner": owner,
            "new_prompt_set": prompt_set,
            "new_run_id": run_id,
            "new_intent_at": now,
            "new_updated_at": now,
        },
    ).one_or_none()
    if attempt is None:
        raise LostOwnershipError(generation_id)
    connection.execute(
        statements.ENTER_ATTEMPT,
        {
            "generation_id": generation_id,
            "attempt": attempt.attempts,
            "model_slug": attempt.model_slug,
            "resource": attempt.resource,
            "prompt_set": prompt_set,
            "state": "submitting",
            "owner": owner,
            "run_id": run_id,
            "reserved_usd": reserved_usd,
            "rate_wait_ms": rate_wait_ms,
            "intent_at": now,
        },
    )
    _commit_money(connection, purses, reserved_usd)
    return Claim(generation_id, attempt.attempts, owner)


def mark_submitted(
    connection: Connection, held: Claim, *, request_id: str, http_status: int | None, now: datetime
) -> None:
    """The provider accepted the POST: `submitting` (or `unknown`, when found later) to `submitted`."""
    _move(
        connection,
        held,
        "submitted",
        request_id=request_id,
        submitted_at=now,
        failure_kind=None,
        error=None,
        now=now,
    )
    _update_attempt(
        connection,
        held,
        state="submitted",
        request_id=request_id,
        submitted_at=now,
        http_status=http_status,
        failure_kind=None,
        error=None,
    )


def mark_unknown(
    connection: Connection, held: Claim, *, failure_kind: str, error: str, http_status: int | None, now: datetime
) -> None:
    """No telling whether the POST was accepted: `submitting` to `unknown`, its cost still reserved."""
    _move(connection, held, "unknown", failure_kind=failure_kind, error=error, now=now)
    _update_attempt(connection, held, state="unknown", failure_kind=failure_kind, error=error, http_status=http_status)


def mark_succeeded(connection: Connection, held: Claim, outcome: Outcome) -> Decimal:
    """The bytes are stored: `submitted` to `succeeded`, the reservation settled with the reported cost.

    A cost the provider did not report keeps its reservation as the estimate. Returns what was charged, in USD.
    """
    reserved = _reserved(connection, held)
    charged = reserved.amount if outcome.cost_usd is None else whole_nanos(outcome.cost_usd)
    accounting = {
        "cost_usd": charged,
        "cost_source": reserved.source if outcome.cost_usd is None else outcome.cost_source,
        "queue_ms": outcome.queue_ms,
        "inference_ms": outcome.inference_ms,
        "latency_ms": outcome.latency_ms,
        "completed_at": outcome.completed_at,
    }
    output: dict[str, Any] = {
        "output_uri": outcome.output_uri,
        "output_sha256": outcome.output_sha256,
        "provider_sha256": outcome.provider_sha256,
        "output_bytes": outcome.output_bytes,
        "output_format": outcome.output_format,
        "width": outcome.width,
        "height": outcome.height,
    }
    if outcome.seed is not None:
        output["seed"] = outcome.seed
    _move(
        connection, held, "succeeded", failure_kind=None, error=None, owner=None, now=outcome.completed_at,
        **accounting, **output,
    )  # fmt: skip
    _update_attempt(connection, held, state="succeeded", failure_kind=None, error=None, **accounting)
    _commit_money(connection, reserved.purses, charged - reserved.amount)
    return charged


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
) -> Decimal:
    """The attempt failed: the generation goes to `failed`, or back to `planned` for another attempt.

    Args:
        connection: the ledger.
        held: the claim.
        target: `failed` or `planned`.
        failure_kind: a kind of `gateway.failures`.
        error: what was seen, for people.
        http_status: of the answer, if there was one.
        cost_usd: what the attempt cost; None when it was paid and the price is not known.
        now: the time.
        cost_source: who reported the cost.

    Returns what was charged, in USD.
    """
    reserved = _reserved(connection, held)
    charged = reserved.amount if cost_usd is None else whole_nanos(cost_usd)
    source = reserved.source if cost_usd is None else cost_source
    money = {"cost_usd": charged, "cost_source": source} if charged else {}
    _move(connection, held, target, failure_kind=failure_kind, error=error, owner=None, now=now, **money)
    _update_attempt(
        connection,
        held,
        state="failed",
        failure_kind=failure_kind,
        error=error,
        http_status=http_status,
        cost_usd=charged,
        cost_source=source,
        completed_at=now,
    )
    _commit_money(connection, reserved.purses, charged - reserved.amount)
    return charged


def refuse_unsent(connection: Connection, generation_id: str, *, failure_kind: str, error: str, now: datetime) -> None:
    """It cannot be sent, and sending the same again cannot help: `planned` to `failed`, without an attempt."""
    connection.execute(
        update(GENERATIONS)
        .where(GENERATIONS.c.generation_id == generation_id, GENERATIONS.c.state == "planned")
        .values(state="failed", failure_kind=failure_kind, error=error, updated_at=now)
    )


def forget_unknown(
    connection: Connection,
    held: Claim,
    *,
    now: datetime,
    reason: str = "The provider's history shows that this submission never arrived.",
) -> None:
    """The POST never arrived: `unknown` to `planned`, its reservation freed."""
    state = _state(connection, held.generation_id)
    if state != "unknown":
        raise IllegalTransitionError(held.generation_id, str(state), "planned")
    mark_failed(
        connection, held, target="planned", failure_kind="unknown_outcome",
        error=reason, http_status=None, cost_usd=_FREE, now=now,
    )  # fmt: skip


def reopen(
    connection: Connection,
    generation_ids: Sequence[str],
    *,
    target: State,
    now: datetime,
    unless: Collection[str] = (),
) -> None:
    """Failed generations are tried again: `planned` to buy, `submitted` to fetch what was paid for.

    Args:
        connection: the ledger.
        generation_ids: which.
        target: `planned` or `submitted`.
        now: the time.
        unless: kinds of failure that keep theirs as it is; another run may have failed it in another way meanwhile.
    """
    check_transition(", ".join(generation_ids[:3]), "failed", target)
    if not generation_ids:
        return
    connection.execute(
        update(GENERATIONS)
        .where(
            GENERATIONS.c.generation_id == bindparam("id_"),
            GENERATIONS.c.state == "failed",
            # one comparison each: NOT IN cannot be sent for many rows at once
            *(func.coalesce(GENERATIONS.c.failure_kind, "") != kind for kind in sorted(unless)),
        )
        .values(state=target, owner=None, updated_at=now),
        [{"id_": generation_id} for generation_id in generation_ids],
    )


def take_over(connection: Connection, *, generation_id: str, old_owner: str | None, owner: str, now: datetime) -> Claim:
    """Continue what a run that is gone had submitted or lost sight of.

    A `submitting` becomes `unknown`, never `planned`: its POST may have been accepted.

    Raises:
        LostOwnershipError: another run was first.
    """
    row = connection.execute(
        select(GENERATIONS.c.state, GENERATIONS.c.owner, GENERATIONS.c.attempts).where(
            GENERATIONS.c.generation_id == generation_id
        )
    ).one()
    if row.owner != old_owner or row.state not in {"submitting", "submitted", "unknown"}:
        raise LostOwnershipError(generation_id)
    state = "unknown" if row.state == "submitting" else row.state
    changed = connection.execute(
        update(GENERATIONS)
        .where(
            GENERATIONS.c.generation_id == generation_id,
            GENERATIONS.c.owner.is_not_distinct_from(old_owner),
            GENERATIONS.c.state == row.state,
        )
        .values(owner=owner, state=state, updated_at=now)
    )
    if changed.rowcount == 0:
        raise LostOwnershipError(generation_id)
    held = Claim(generation_id, row.attempts, owner)
    if state != row.state:
        _update_attempt(
            connection, held, state="unknown", failure_kind="unknown_outcome",
            error="The run that sent this submission stopped before it saw the answer.",
        )  # fmt: skip
    return held


def let_go(connection: Connection, generation_id: str, *, owner: str, now: datetime) -> None:
    """A run does nothing more about what it submitted: others need not wait for its end to go on with it."""
    connection.execute(
        update(GENERATIONS)
        .where(
            GENERATIONS.c.generation_id == generation_id,
            GENERATIONS.c.owner == owner,
            GENERATIONS.c.state.in_(IN_PROGRESS),
        )
        .values(owner=None, updated_at=now)
    )


def _move(connection: Connection, held: Claim, target: State, *, now: datetime, **values: Any) -> None:
    values["updated_at"] = now
    changed = connection.execute(
        statements.move(target, tuple(sorted(values))), {**_held(held), "held_owner": held.owner, **_new(values)}
    )
    if changed.rowcount == 1:
        return
    row = connection.execute(statements.STATE, {"held_id": held.generation_id}).one_or_none()
    if row is None:
        raise LedgerError(f"Generation {held.generation_id} is not in the ledger.")
    if row.owner != held.owner or row.attempts != held.attempt:
        raise LostOwnershipError(held.generation_id)
    raise IllegalTransitionError(held.generation_id, row.state, target)


def _state(connection: Connection, generation_id: str) -> str | None:
    return connection.execute(statements.STATE, {"held_id": generation_id}).scalar()


def _update_attempt(connection: Connection, held: Claim, **values: Any) -> None:
    connection.execute(statements.change_attempt(tuple(sorted(values))), {**_held(held), **_new(values)})


def _held(held: Claim) -> dict[str, Any]:
    return {"held_id": held.generation_id, "held_attempt": held.attempt}


def _new(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"new_{name}": value for name, value in values.items()}


class _Reservation(NamedTuple):
    """What one attempt has put aside or cost, against which caps it counts, and who said so."""

    amount: Decimal
    purses: Mapping[str, str]
    source: str


def _reserved(connection: Connection, held: Claim) -> _Reservation:
    row = connection.execute(statements.RESERVED, _held(held)).one_or_none()
    if row is None:
        raise LedgerError(f"Attempt {held.attempt} of generation {held.generation_id} is not in the ledger.")
    # an amount that was reported once stays so when a later look brings none
    purses = {"day": row.intent_at.date().isoformat(), "run": row.run, "set": row.prompt_set}
    return _Reservation(row.usd, purses, row.cost_source or "estimated")


def _check_caps(connection: Connection, caps: Caps, purses: Mapping[str, str], needed_usd: Decimal) -> None:
    committed = {row.scope: row.committed_usd for row in connection.execute(statements.COMMITTED, purses)}
    remedies = {
        "set": (caps.set_usd, f"by prompt set '{purses['set']}'", "Raise its `budget_usd`, or ask for less"),
        "run": (caps.run_usd, "by this run", "Raise SEGMIND_RUN_BUDGET_USD, or materialize again: the rest resumes"),
        "day": (
            caps.day_usd,
            f"on {purses['day']} (UTC)",
            "Raise SEGMIND_DAILY_BUDGET_USD, or materialize again tomorrow: what is missing resumes by itself",
        ),
    }
    for scope, (cap, whose, remedy) in remedies.items():
        used = committed.get(scope, _FREE)
        if cap is not None and used + needed_usd > cap:
            raise BudgetError(
                f"The {scope} cap stands in the way: ${used:.4f} of ${cap} is used {whose} and the next generation "
                f"may cost ${needed_usd:.4f}. {remedy}.",
                scope=scope,
            )


def _commit_money(connection: Connection, purses: Mapping[str, str], difference: Decimal) -> None:
    if not difference:
        return
    connection.execute(
        statements.add_spending(connection.dialect.name),
        [{"scope": scope, "name": name, "committed_usd": difference} for scope, name in purses.items()],
    )
