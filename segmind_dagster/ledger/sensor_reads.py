"""Queries of the sensors: what is open, of which sets, since when. Nothing here writes or decides.

Results are sums from an index, so that they are small however many generations there are. When a run
follows is decided in `lifecycle.next_step`, which also defines the pauses.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from sqlalchemy import BigInteger, and_, case, func, literal_column, or_, select, true, type_coerce, union, union_all

from segmind_dagster.ledger import reads
from segmind_dagster.ledger.leases import RecordedLease, recorded_leases
from segmind_dagster.ledger.schema import (
    ATTEMPTS,
    BALANCE_KEY,
    GENERATIONS,
    IS_OPEN,
    MAY_BE_PAID_FAILURE,
    RUNS,
    SET_GENERATIONS,
    Utc,
)
from segmind_dagster.lifecycle.parsing import read_balance_usd, read_instant
from segmind_dagster.lifecycle.states import IN_PROGRESS, State

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy import ColumnElement, Connection

# more than a wall clock jumps
_WRONG_BY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWork:
    """Generations of one prompt set and one model that are not made yet, with the same state and failures.

    Args:
        prompt_set: the set that asks for them.
        resource: the model's resource name.
        state: `planned` or `failed`.
        failure_kind: why their last attempt failed, if one was made.
        runs: in how many runs each of them has failed after a POST.
        generations: how many they are.
        last_at: when something happened to one of them last.
    """

    prompt_set: str
    resource: str
    state: State
    failure_kind: str | None
    runs: int
    generations: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Generations that one run owns, or owned when it died.

    Args:
        owner: the run, as the ledger names it.
        generations: how many they are.
        last_at: when something happened to one of them last.
    """

    owner: str
    generations: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Loose:
    """Generations that may have been paid for, are not stored, and that no run has.

    Args:
        look: whether the next look for them is at once (`now`), `later`, or would be too late (`never`).
        generations: how many they are.
        next_at: when the first of these looks follows.
        first_paid_at: when the first of them was submitted, or was about to be.
        last_looked_at: when something happened to one of them last.
    """

    look: Literal["now", "later", "never"]
    generations: int
    next_at: datetime
    first_paid_at: datetime
    last_looked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """The last recorded balance of the account.

    Args:
        balance_usd: the balance.
        observed_at: when that was.
    """

    balance_usd: Decimal
    observed_at: datetime


def open_work(
    connection: Connection, *, failed_kinds: Collection[str], uncounted_kinds: Collection[str]
) -> list[OpenWork]:
    """What current prompt sets ask for and no run owns: planned, or failed in one of these ways.

    Args:
        connection: the ledger.
        failed_kinds: kinds of failure to look for.
        uncounted_kinds: kinds that say nothing about a generation, so that their runs do not count.
    """
    columns = GENERATIONS.c
    kinds: Mapping[State, ColumnElement[bool]] = {
        "planned": true(),
        "failed": columns.failure_kind.in_(sorted(failed_kinds)),
    }
    return [work for state, which in kinds.items() for work in _open(connection, state, which, uncounted_kinds)]


def _open(
    connection: Connection, state: State, which: ColumnElement[bool], uncounted_kinds: Collection[str]
) -> list[OpenWork]:
    columns, asked = GENERATIONS.c, SET_GENERATIONS.c
    each = (
        select(
            asked.prompt_set,
            columns.resource,
            columns.failure_kind,
            columns.updated_at,
            reads.failed_runs_of(uncounted_kinds).label("runs"),
        )
        .join_from(GENERATIONS, SET_GENERATIONS, asked.generation_id == columns.generation_id)
        .where(IS_OPEN, columns.state == state, which, asked.is_current)
        .subquery()
    )
    # each column here is compared thousands of times
    story = (each.c.prompt_set, each.c.resource, each.c.failure_kind, each.c.runs)
    rows = connection.execute(
        select(*story, func.count().label("generations"), func.max(each.c.updated_at).label("last_at"))
        .group_by(*story)
        .order_by(*story)
    )
    return [OpenWork(state=state, **row) for row in rows.mappings()]


def held(connection: Connection) -> list[Held]:
    """Submissions that are not stored, by the run that owns them, which may be dead."""
    columns = GENERATIONS.c
    rows = connection.execute(
        select(
            columns.owner, func.count().label("generations"), func.max(columns.updated_at).label("last_at")
        )
        .where(IS_OPEN, columns.state.in_(IN_PROGRESS), columns.owner.is_not(None))
        .group_by(columns.owner)
        .order_by(columns.owner)
    )  # fmt: skip
    return [Held(**row) for row in rows.mappings()]


def loose(connection: Connection, *, now: datetime, first_look: timedelta, kept: timedelta) -> list[Loose]:
    """Submissions without an owner, and failures that are or may be paid.

    The waiting time doubles with each look and is `first_look` at least; there is no look after `kept`, when the
    provider has deleted the output. Worked out in the database: there may be thousands.
    """
    columns = GENERATIONS.c
    times = (
        func.coalesce(columns.submitted_at, columns.intent_at, columns.updated_at, type_=Utc).label("paid_at"),
        columns.updated_at.label("looked_at"),
    )
    let_go = select(*times).where(IS_OPEN, columns.state.in_(IN_PROGRESS), columns.owner.is_(None))
    unusable = select(*times).where(IS_OPEN, MAY_BE_PAID_FAILURE, times[0].element > now - kept)
    each = union_all(let_go, unusable).subquery()
    paid, looked = (type_coerce(column, BigInteger) for column in (each.c.paid_at, each.c.looked_at))
    shortest = _microseconds(first_look)
    next_at = looked + case((looked - paid > shortest, looked - paid), else_=shortest)
    look = case(
        (next_at > paid + _microseconds(kept), "never"), (type_coerce(next_at, Utc) > now, "later"), else_="now"
    )  # fmt: skip
    rows = connection.execute(
        select(
            look.label("look"),
            func.count().label("generations"),
            func.min(type_coerce(next_at, Utc)).label("next_at"),
            func.min(each.c.paid_at).label("first_paid_at"),
            func.max(each.c.looked_at).label("last_looked_at"),
        ).group_by(literal_column("look"))
    )
    return [Loose(**row) for row in rows.mappings()]


def _microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def sets_out_of_hand(connection: Connection, *, since: datetime) -> list[str]:
    """The prompt sets that hold, now or earlier, something that is held or loose.

    Args:
        connection: the ledger.
        since: nothing that failed and was paid for earlier.
    """
    columns, asked = GENERATIONS.c, SET_GENERATIONS.c
    paid_at = func.coalesce(columns.submitted_at, columns.intent_at, columns.updated_at, type_=Utc)
    unusable = and_(MAY_BE_PAID_FAILURE, paid_at >= since)
    found = [
        select(asked.prompt_set)
        .join_from(GENERATIONS, SET_GENERATIONS, asked.generation_id == columns.generation_id)
        .where(IS_OPEN, which)
        for which in (columns.state.in_(IN_PROGRESS), unusable)
    ]
    return sorted(connection.execute(union(*found)).scalars())


def asked_for(connection: Connection, prompt_set: str) -> frozenset[str]:
    """The generations that the last run of a prompt set found in its file."""
    asked = SET_GENERATIONS.c
    query = select(asked.generation_id).where(asked.prompt_set == prompt_set, asked.is_current)
    return frozenset(connection.execute(query).scalars())


def standing(connection: Connection, prompt_set: str) -> Mapping[str, Counter[State]]:
    """How many of the generations that a prompt set asks for are in which state, by model."""
    asked = SET_GENERATIONS.c
    rows = connection.execute(
        select(asked.resource, GENERATIONS.c.state, func.count().label("generations"))
        .join_from(SET_GENERATIONS, GENERATIONS, asked.generation_id == GENERATIONS.c.generation_id)
        .where(asked.prompt_set == prompt_set, asked.is_current)
        .group_by(asked.resource, GENERATIONS.c.state)
    )
    counts: defaultdict[str, Counter[State]] = defaultdict(Counter)
    for row in rows:
        counts[row.resource][row.state] = row.generations
    return counts


def leases(connection: Connection, *, now: datetime, run_ids: Collection[str]) -> list[RecordedLease]:
    """The leases that may hold, and those of these Dagster runs; which do hold, `Ledger.liveness` knows.

    Args:
        connection: the ledger.
        now: the time, which may be wrong by hours.
        run_ids: Dagster runs.
    """
    may_hold = and_(RUNS.c.lease_until > now - _WRONG_BY, RUNS.c.ended_at.is_(None))
    return recorded_leases(connection, or_(may_hold, RUNS.c.run_id.in_(sorted(run_ids))))


def last_success(connection: Connection, model_slugs: Sequence[str]) -> datetime | None:
    """When one of these models last delivered something that was paid for."""
    columns = ATTEMPTS.c
    found = [
        connection.execute(
            select(func.max(columns.completed_at)).where(columns.model_slug == slug, columns.state == "succeeded")
        ).scalar()
        for slug in model_slugs
    ]
    return max((at for at in found if at is not None), default=None)


def balance(connection: Connection) -> Balance | None:
    """The balance as it was last recorded; None without one."""
    text = reads.meta(connection, BALANCE_KEY)
    if text is None:
        return None
    try:
        document = json.loads(text)
        balance_usd, observed_at = read_balance_usd(document["balance_usd"]), read_instant(document["observed_at"])
    except (ValueError, KeyError, TypeError, RecursionError):
        balance_usd = observed_at = None
    # an unreadable value is ignored; the next look at the account replaces it
    return (
        Balance(balance_usd=balance_usd, observed_at=observed_at)
        if balance_usd is not None and observed_at is not None
        else None
    )
