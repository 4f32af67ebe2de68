"""The queries of the asset checks, as functions of one connection; `reads` is for runs.

Rows are returned as stored; what they mean is decided in `checks`.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, func, or_, select, union_all

from segmind_dagster.ledger import reads
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, IS_OPEN, SET_GENERATIONS
from segmind_dagster.lifecycle.generation import Generation, Output
from segmind_dagster.lifecycle.states import IN_PROGRESS
from segmind_dagster.registry import recorded_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

_FREE = Decimal(0)
# failed, but paid for and still at Segmind: it is fetched again
_DAMAGED = "bad_output"
_IS_CURRENT = SET_GENERATIONS.c.is_current
_SINCE = func.coalesce(GENERATIONS.c.submitted_at, GENERATIONS.c.intent_at, type_=GENERATIONS.c.intent_at.type)


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
    query = (
        reads.select_records(columns.prompt, reads.failed_runs_of(uncounted_kinds).label("failed_runs"))
        .join_from(SET_GENERATIONS, GENERATIONS, SET_GENERATIONS.c.generation_id == columns.generation_id)
        .where(*_of_set(resource, prompt_set), _IS_CURRENT, columns.state != "succeeded")
        .order_by(SET_GENERATIONS.c.position)
    )
    return asked_for, reads.read_records(connection, query, is_alive)


def stored_rows(connection: Connection, *, resource: str, prompt_set: str) -> list[Output]:
    """Every output of a model that a set holds, also of prompts no longer in the set."""
    columns = GENERATIONS.c
    rows = connection.execute(
        select(
            columns.output_uri.label("uri"), columns.output_sha256.label("sha256"),
            columns.output_bytes.label("size_bytes"), columns.output_format.label("format"),
            columns.width, columns.height,
        )
        .join_from(SET_GENERATIONS, GENERATIONS, SET_GENERATIONS.c.generation_id == columns.generation_id)
        .where(*_of_set(resource, prompt_set), columns.state == "succeeded")
        .order_by(SET_GENERATIONS.c.position, columns.generation_id)
    )  # fmt: skip
    return [Output(**row) for row in rows.mappings()]


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


def waiting_rows(connection: Connection, *, resource: str) -> list[Generation]:
    """Everything submitted to a model and not stored, of any set, oldest first.

    The cost of each is what was charged, else what is reserved.
    """
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
            columns.generation_id, columns.prompt_set, columns.model_slug, columns.state, columns.request_id,
            columns.submitted_at, columns.intent_at, usd.label("cost_usd"),
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
        Generation(model=recorded_model(values.pop("model_slug"), resource), **values)
        for values in map(dict, rows.mappings())
    ]


def _of_set(resource: str, prompt_set: str) -> tuple[ColumnElement[bool], ...]:
    return SET_GENERATIONS.c.prompt_set == prompt_set, SET_GENERATIONS.c.resource == resource
