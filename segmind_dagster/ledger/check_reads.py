"""The queries of the asset checks, as functions of one connection; `reads` is for runs.

Rows are returned as stored; what they mean is decided in `checks`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, func, or_, select, union_all

from segmind_dagster.ledger import sensor_reads
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, IS_OPEN, SET_GENERATIONS
from segmind_dagster.lifecycle.generation import Generation
from segmind_dagster.lifecycle.states import IN_PROGRESS
from segmind_dagster.registry import recorded_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from segmind_dagster.lifecycle.states import State

_FREE = Decimal(0)
# failed, but paid for and still at Segmind: it is fetched again
_DAMAGED = "bad_output"
_IS_CURRENT = SET_GENERATIONS.c.is_current
_SINCE = func.coalesce(GENERATIONS.c.submitted_at, GENERATIONS.c.intent_at, type_=GENERATIONS.c.intent_at.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """An output as it was stored.

    Args:
        generation_id: the generation.
        uri: where it was put.
        sha256: digest of the stored bytes.
        size_bytes: their number.
    """

    generation_id: str
    uri: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRow:
    """What Segmind took an order for, and what is not stored here.

    Args:
        generation_id: the generation.
        prompt_set: the set that pays.
        state: `submitting`, `submitted`, `unknown`, or `failed` when the file came damaged.
        since: when it was submitted, or was about to be.
        request_id: Segmind's id, where it is known.
        usd: charged, or reserved for it.
    """

    generation_id: str
    prompt_set: str
    state: State
    since: datetime
    request_id: str | None
    usd: Decimal


def open_rows(
    connection: Connection,
    *,
    resource: str,
    prompt_set: str,
    is_alive: Callable[[str, Connection], bool],
    uncounted_kinds: Collection[str],
) -> tuple[int, list[Generation]]:
    """How many generations of a model a set has now, and those that are not stored, in the set's order.

    Args:
        connection: the ledger.
        resource: the model's resource name.
        prompt_set: the set.
        is_alive: tells whether a run is still there.
        uncounted_kinds: kinds of failure that say nothing about a generation, so that their runs do not count.
    """
    columns = GENERATIONS.c
    asked_for = connection.execute(
        select(func.count()).select_from(SET_GENERATIONS).where(*_of_set(resource, prompt_set), _IS_CURRENT)
    ).scalar_one()
    rows = connection.execute(
        select(
            columns.generation_id, columns.model_slug, columns.prompt, columns.state, columns.owner, columns.attempts,
            sensor_reads.failed_runs_of(uncounted_kinds).label("failed_runs"), columns.request_id, columns.submitted_at,
            columns.intent_at, columns.failure_kind, columns.error, columns.cost_usd,
        )
        .join_from(SET_GENERATIONS, GENERATIONS, SET_GENERATIONS.c.generation_id == columns.generation_id)
        .where(*_of_set(resource, prompt_set), _IS_CURRENT, columns.state != "succeeded")
        .order_by(SET_GENERATIONS.c.position)
    )  # fmt: skip
    return asked_for, [
        Generation(
            generation_id=row.generation_id,
            prompt_set=prompt_set,
            model=recorded_model(row.model_slug, resource),
            prompt=row.prompt,
            state=row.state,
            owner=row.owner,
            is_owner_alive=row.state in IN_PROGRESS and row.owner is not None and is_alive(row.owner, connection),
            attempts=row.attempts,
            request_id=row.request_id,
            submitted_at=row.submitted_at,
            intent_at=row.intent_at,
            failure_kind=row.failure_kind,
            error=row.error,
            cost_usd=row.cost_usd,
            failed_runs=row.failed_runs,
        )
        for row in rows.all()
    ]


def stored_rows(connection: Connection, *, resource: str, prompt_set: str) -> list[StoredRow]:
    """Every output of a model that a set holds, also of prompts no longer in the set."""
    columns = GENERATIONS.c
    rows = connection.execute(
        select(columns.generation_id, columns.output_uri, columns.output_sha256, columns.output_bytes)
        .join_from(SET_GENERATIONS, GENERATIONS, SET_GENERATIONS.c.generation_id == columns.generation_id)
        .where(*_of_set(resource, prompt_set), columns.state == "succeeded")
        .order_by(SET_GENERATIONS.c.position, columns.generation_id)
    )
    return [
        StoredRow(
            generation_id=row.generation_id, uri=row.output_uri, sha256=row.output_sha256, size_bytes=row.output_bytes
        )
        for row in rows
    ]


def charged_again(connection: Connection, *, resource: str, prompt_set: str) -> list[Mapping[str, Any]]:
    """Every charge of a set's generations that have more than one, as `reports.spend_sql` asks the warehouse for them.

    A request id stands in the ledger once as it is.
    """
    columns = ATTEMPTS.c
    charged = (
        select(
            columns.generation_id, columns.attempt, columns.model_slug.label("model"), columns.prompt_set,
            columns.request_id, columns.failure_kind, columns.cost_usd, columns.intent_at,
        )
        .join_from(SET_GENERATIONS, ATTEMPTS, SET_GENERATIONS.c.generation_id == columns.generation_id)
        .where(*_of_set(resource, prompt_set), columns.cost_usd > _FREE)
        .order_by(columns.generation_id, columns.attempt)
    )  # fmt: skip
    rows = [dict(row) for row in connection.execute(charged).mappings()]
    charges = Counter(row["generation_id"] for row in rows)
    return [row for row in rows if charges[row["generation_id"]] > 1]


def charged_by_then(
    connection: Connection, *, since: datetime | None, until: datetime | None
) -> tuple[bool, int, Decimal]:
    """What was charged, or may be, in some time, and after it.

    Args:
        connection: the ledger.
        since: when it begins; None: there is no such time, and all is after it.
        until: when it ends.

    Returns whether anything was sent in that time, how many submissions were sent after it, and what those were
    charged or have reserved, in USD.
    """
    columns = ATTEMPTS.c
    may_be_charged = or_(columns.cost_usd.is_(None), columns.cost_usd > _FREE)
    usd = func.coalesce(columns.cost_usd, columns.reserved_usd, type_=columns.cost_usd.type)
    after = select(func.count(), func.sum(usd)).where(may_be_charged)
    if since is None or until is None:
        count, total = connection.execute(after).one()
        return False, count, total or _FREE
    within = select(columns.attempt).where(may_be_charged, columns.intent_at.between(since, until)).limit(1)
    count, total = connection.execute(after.where(columns.intent_at > until)).one()
    return connection.execute(within).first() is not None, count, total or _FREE


def charged_for(connection: Connection, *, resource: str, prompt_set: str) -> Decimal:
    """What a set has paid for a model so far, in USD."""
    query = select(func.sum(ATTEMPTS.c.cost_usd)).where(
        ATTEMPTS.c.prompt_set == prompt_set, ATTEMPTS.c.resource == resource
    )
    return connection.execute(query).scalar() or _FREE


def waiting_rows(connection: Connection, *, resource: str) -> list[WaitingRow]:
    """Everything submitted to a model and not stored, of any set, oldest first."""
    columns = GENERATIONS.c
    usd = func.coalesce(ATTEMPTS.c.cost_usd, ATTEMPTS.c.reserved_usd, type_=ATTEMPTS.c.cost_usd.type)
    # selected from the index, before a row is read
    damaged = and_(columns.state == "failed", columns.failure_kind == _DAMAGED)
    waiting = union_all(
        *(
            select(columns.generation_id).where(IS_OPEN, which, columns.resource == resource)
            for which in (columns.state.in_(IN_PROGRESS), damaged)
        )
    )
    rows = connection.execute(
        select(
            columns.generation_id, columns.prompt_set, columns.state, columns.request_id,
            _SINCE.label("since"), usd.label("usd"),
        )
        .join_from(
            GENERATIONS,
            ATTEMPTS,
            and_(ATTEMPTS.c.generation_id == columns.generation_id, ATTEMPTS.c.attempt == columns.attempts),
        )
        .where(columns.generation_id.in_(waiting))
        .order_by(_SINCE, columns.generation_id)
    )  # fmt: skip
    return [
        WaitingRow(
            generation_id=row.generation_id,
            prompt_set=row.prompt_set,
            state=row.state,
            since=row.since,
            request_id=row.request_id,
            usd=row.usd,
        )
        for row in rows
    ]


def _of_set(resource: str, prompt_set: str) -> tuple[ColumnElement[bool], ...]:
    return SET_GENERATIONS.c.prompt_set == prompt_set, SET_GENERATIONS.c.resource == resource
