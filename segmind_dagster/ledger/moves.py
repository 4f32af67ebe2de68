"""The three moves that every bought generation makes: claimed, accepted, stored. Each for many at once.

A move names its claim, so that a run which lost its claim changes nothing. Writers of a ledger run one at a time (see
`store`), so that what is read here still holds when it is changed. All other state changes are in `writes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import LostOwnershipError, RequestOwnedError, SegmindDagsterError
from segmind_dagster.ledger import statements
from segmind_dagster.ledger.batching import batched
from segmind_dagster.ledger.claims import change, change_all, generations, move, move_all, refusals_of
from segmind_dagster.ledger.money import Totals, budget, missing, over_budget, report_prices, reservations
from segmind_dagster.ledger.schema import whole_nanos
from segmind_dagster.lifecycle.budget import Refused, ScopeNames, Spend
from segmind_dagster.lifecycle.generation import Attempt, Claim

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy import Connection

    from segmind_dagster.ledger.records import Charge
    from segmind_dagster.lifecycle.budget import Caps


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """A run that is about to send a POST for a generation, and what it may cost.

    Args:
        generation_id: the generation.
        owner: the run that sends it.
        run_id: Dagster's id of that run, whose cap it counts against; the owner's own when None.
        prompt_set: the set that pays.
        reserved_usd: its estimate; where more was reported lately, that is reserved.
        caps: the limits on money.
        rate_wait_ms: how long it waited for the request rate.
        now: the time.
    """

    generation_id: str
    owner: str
    run_id: str | None
    prompt_set: str
    reserved_usd: Decimal
    caps: Caps
    rate_wait_ms: int
    now: datetime

    def spend(self, model_slug: str) -> Spend:
        """The request to the caps."""
        return Spend(
            model_slug=model_slug,
            scopes=ScopeNames(self.now.date().isoformat(), self.run_id or self.owner, self.prompt_set),
            caps=self.caps,
            planned_usd=whole_nanos(self.reserved_usd),
        )


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An accepted POST, from its answer or from the history.

    Args:
        held: the claim it was sent with.
        request_id: the provider's id.
        http_status: of the answer; None when it was found later.
        now: the time.
    """

    held: Claim
    request_id: str
    http_status: int | None
    now: datetime


def _as_it_is(attempt: Attempt) -> Attempt:
    return attempt


@batched(ClaimRequest)
def claim(connection: Connection, requests: Sequence[ClaimRequest]) -> list[Claim | SegmindDagsterError]:
    """Claim planned generations for one POST each and reserve their cost: `planned` to `submitting`.

    The caps are checked here, against what all runs have open now. Nothing outside the transaction changes: it may be
    repeated.

    Refusals:
        BudgetError: a cap would be exceeded.
        LostOwnershipError: another run was first.
    """
    rows = generations(connection, [request.generation_id for request in requests])
    free = {generation_id: row for generation_id, row in rows.items() if row.state == "planned"}
    spends = [
        request.spend(free[request.generation_id].model_slug) if request.generation_id in free else None
        for request in requests
    ]
    allowed = budget(connection, [spend for spend in spends if spend], now=max(each.now for each in requests))
    totals = Totals(connection)
    answers: list[Claim | SegmindDagsterError] = []
    claims: list[dict[str, Any]] = []
    attempts: list[dict[str, Any]] = []
    for request, spend in zip(requests, spends, strict=True):
        row = free.get(request.generation_id)
        if row is None or spend is None:
            answers.append(LostOwnershipError(request.generation_id))
            continue
        reserve_usd = allowed.decide(spend)
        if isinstance(reserve_usd, Refused):
            answers.append(over_budget(reserve_usd))
            continue
        allowed.reserve(spend, reserve_usd)
        totals.add(spend.scopes, reserve_usd)
        del free[request.generation_id]
        answers.append(Claim(request.generation_id, row.attempts + 1, request.owner))
        common = {
            "owner": request.owner,
            "prompt_set": request.prompt_set,
            "run_id": request.run_id,
            "intent_at": request.now,
        }
        claims.append({"held_id": request.generation_id, **statements.new(common), "new_updated_at": request.now})
        attempts.append(
            {
                **common,
                "generation_id": request.generation_id,
                "attempt": row.attempts + 1,
                "model_slug": row.model_slug,
                "resource": row.resource,
                "state": "submitting",
                "reserved_usd": reserve_usd,
                "rate_wait_ms": request.rate_wait_ms,
            }
        )
    if claims:
        change_all(connection, statements.CLAIM, claims)
        connection.execute(statements.ENTER_ATTEMPT, attempts)
        totals.write()
    return answers


@batched(Acceptance)
def mark_submitted(connection: Connection, accepted: Sequence[Acceptance]) -> list[SegmindDagsterError | None]:
    """The provider accepted the POST: `submitting` (or `unknown`, when found later) to `submitted`.

    Refusals:
        LostOwnershipError: another run has it by now.
        IllegalTransitionError: it is in no state that allows it.
        RequestOwnedError: another generation or attempt has that request.
    """
    refusals = refusals_of(connection, [each.held for each in accepted], "submitted")
    known = connection.execute(statements.REQUESTS, {"ids": [each.request_id for each in accepted]})
    owners = {row.request_id: (row.generation_id, row.attempt) for row in known}
    moves, attempts = [], []
    for each in accepted:
        if each.held in refusals:
            continue
        mine = (each.held.generation_id, each.held.attempt)
        owner = owners.setdefault(each.request_id, mine)
        if owner != mine:
            refusals[each.held] = RequestOwnedError(each.request_id, owner[0])
            continue
        values = {
            "request_id": each.request_id, "submitted_at": each.now, "failure_kind": None, "error": None,
        }  # fmt: skip
        moves.append(move(each.held, values, updated_at=each.now))
        attempts.append(change(each.held, values, http_status=each.http_status))
    move_all(connection, "submitted", moves, attempts, attempt_target="submitted")
    return [refusals.get(each.held) for each in accepted]


@batched(_as_it_is)
def mark_succeeded(connection: Connection, stored: Sequence[Attempt]) -> list[Charge | SegmindDagsterError]:
    """The bytes are stored: `submitted` to `succeeded`, the reservation settled with the reported cost.

    A cost that the provider did not report is estimated. Returns what it cost.

    Refusals:
        LostOwnershipError: another run has it by now.
        IllegalTransitionError: it is in no state that allows it.
    """
    held = [each.claim for each in stored]
    refusals = refusals_of(connection, held, "succeeded")
    reserved = reservations(connection, [each for each in held if each not in refusals])
    totals = Totals(connection)
    answers: list[Charge | SegmindDagsterError] = []
    moves, attempts = [], []
    prices: list[tuple[str, Decimal | None, datetime]] = []
    for each in stored:
        if each.claim in refusals:
            answers.append(refusals[each.claim])
            continue
        before, output, reported = reserved.get(each.claim), each.output, each.accounting
        if before is None or output is None or each.completed_at is None:
            answers.append(missing(each.claim))
            continue
        charge = before.settled(reported.cost_usd, source=each.cost_source, estimate_usd=each.estimate_usd)
        answers.append(charge)
        accounting = {
            "cost_usd": charge.usd,
            "cost_source": charge.source,
            "queue_ms": reported.queue_ms,
            "inference_ms": reported.inference_ms,
            "latency_ms": each.latency_ms,
            "completed_at": each.completed_at,
            "failure_kind": None,
            "error": None,
        }
        where = {
            "owner": None,
            "output_uri": output.uri,
            "output_sha256": output.sha256,
            "provider_sha256": each.provider_sha256,
            "output_bytes": output.size_bytes,
            "output_format": output.format,
            "width": output.width,
            "height": output.height,
            "seed": reported.seed,
            "updated_at": each.completed_at,
        }
        moves.append(move(each.claim, accounting, **where))
        attempts.append(change(each.claim, accounting))
        totals.add(before.scopes, charge.usd - before.amount_usd)
        prices.append((before.model_slug, reported.cost_usd, each.completed_at))
    move_all(connection, "succeeded", moves, attempts, attempt_target="succeeded")
    totals.write()
    report_prices(connection, prices)
    return answers
