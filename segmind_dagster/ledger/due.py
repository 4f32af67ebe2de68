"""What sensors ask of the ledger: what is open, of which sets, since when. Nothing here writes or decides.

Answers are sums per prompt set and model, or a row for each thing that is out of hand, so that they are small and
come from an index however many generations there are. When something is due is `planning.due`'s business.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select

from segmind_dagster.ledger import reads
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, RUNS, SET_GENERATIONS
from segmind_dagster.ledger.states import IN_PROGRESS, State

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection

BALANCE_KEY = "balance"
_CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWork:
    """Generations of one prompt set and one model that were asked for and not made, with the same story.

    Args:
        prompt_set: the set that asks for them.
        resource: the model's resource name.
        state: `planned` or `failed`.
        failure_kind: why their last attempt failed, if one was made.
        runs: how many runs have sent a POST for each of them in vain.
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
class Unstored:
    """A generation that may have been paid for and is not stored.

    Args:
        generation_id: the generation.
        prompt_set: the set that pays for it.
        state: its state.
        owner: the run that has it; None when none has.
        paid_at: when it was submitted, or was about to be.
        looked_at: when something happened to it last.
    """

    generation_id: str
    prompt_set: str
    state: State
    owner: str | None
    paid_at: datetime
    looked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLease:
    """A run's lease.

    Args:
        owner: the run, as the ledger names it.
        run_id: Dagster's id of it, if there is one.
        lease_until: when its right to act ends, or ended.
    """

    owner: str
    run_id: str | None
    lease_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """The account's balance as it was last seen.

    Args:
        balance_usd: the balance.
        observed_at: when that was.
    """

    balance_usd: Decimal
    observed_at: datetime


def open_work(
    connection: Connection, *, failed_kinds: Collection[str], uncounted_kinds: Collection[str]
) -> list[OpenWork]:
    """What current prompt sets ask for and nobody is at: planned, or failed in one of these ways.

    Args:
        connection: the ledger.
        failed_kinds: kinds of failure to look for.
        uncounted_kinds: kinds that say nothing about a generation, so that their runs do not count.
    """
    columns = GENERATIONS.c
    return [
        *_open(connection, columns.state == "planned", uncounted_kinds),
        *_open(
            connection,
            and_(columns.state == "failed", columns.failure_kind.in_(sorted(failed_kinds))),
            uncounted_kinds,
        ),
    ]


def _open(connection: Connection, which: ColumnElement[bool], uncounted_kinds: Collection[str]) -> list[OpenWork]:
    columns, asked = GENERATIONS.c, SET_GENERATIONS.c
    runs = (
        select(func.count(ATTEMPTS.c.owner.distinct()))
        .where(
            ATTEMPTS.c.generation_id == columns.generation_id,
            ATTEMPTS.c.failure_kind.not_in(sorted(uncounted_kinds)),
        )
        .scalar_subquery()
    )
    each = (
        select(
            asked.prompt_set,
            asked.resource,
            columns.state,
            columns.failure_kind,
            columns.updated_at,
            runs.label("runs"),
        )
        .join_from(GENERATIONS, SET_GENERATIONS, asked.generation_id == columns.generation_id)
        .where(which, asked.is_current)
        .subquery()
    )
    story = (each.c.prompt_set, each.c.resource, each.c.state, each.c.failure_kind, each.c.runs)
    rows = connection.execute(
        select(*story, func.count().label("generations"), func.max(each.c.updated_at).label("last_at"))
        .group_by(*story)
        .order_by(*story)
    )
    return [OpenWork(**row) for row in rows.mappings()]


def runs_of(
    connection: Connection, generation_ids: Sequence[str], *, uncounted_kinds: Collection[str]
) -> dict[str, int]:
    """How many runs have sent a POST for each of these generations, as far as they count."""
    columns = ATTEMPTS.c
    counts: dict[str, int] = {}
    for start in range(0, len(generation_ids), _CHUNK):
        rows = connection.execute(
            select(columns.generation_id, func.count(columns.owner.distinct()).label("runs"))
            .where(
                columns.generation_id.in_(generation_ids[start : start + _CHUNK]),
                columns.failure_kind.not_in(sorted(uncounted_kinds)),
            )
            .group_by(columns.generation_id)
        )
        counts.update((row.generation_id, row.runs) for row in rows)
    return counts


def unstored(connection: Connection, *, paid_kinds: Collection[str], since: datetime) -> list[Unstored]:
    """What was submitted, or may have been, and is not stored; and what was paid for and could not be used.

    Args:
        connection: the ledger.
        paid_kinds: kinds of failure after which the output may still be fetched.
        since: nothing that was paid for earlier, and is given up already.
    """
    columns = GENERATIONS.c
    paid_at = func.coalesce(columns.submitted_at, columns.intent_at, columns.updated_at)
    wanted = (columns.generation_id, columns.prompt_set, columns.state, columns.owner)
    times = (paid_at.label("paid_at"), columns.updated_at.label("looked_at"))
    out = select(*wanted, *times).where(columns.state.in_(IN_PROGRESS))
    unusable = select(*wanted, *times).where(
        columns.state == "failed", columns.failure_kind.in_(sorted(paid_kinds)), paid_at >= since
    )
    return [Unstored(**row) for query in (out, unusable) for row in connection.execute(query).mappings()]


def asked_for(connection: Connection, prompt_set: str) -> frozenset[str]:
    """The generations that the last run of a prompt set found in its file."""
    asked = SET_GENERATIONS.c
    query = select(asked.generation_id).where(asked.prompt_set == prompt_set, asked.is_current)
    return frozenset(connection.execute(query).scalars())


def sets_of(connection: Connection, generation_ids: Sequence[str]) -> frozenset[str]:
    """The prompt sets that hold one of these generations, now or earlier."""
    found: set[str] = set()
    for start in range(0, len(generation_ids), _CHUNK):
        chunk = generation_ids[start : start + _CHUNK]
        query = select(SET_GENERATIONS.c.prompt_set).where(SET_GENERATIONS.c.generation_id.in_(chunk)).distinct()
        found.update(connection.execute(query).scalars())
    return frozenset(found)


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


def leases(connection: Connection, *, now: datetime, run_ids: Collection[str]) -> list[RunLease]:
    """The leases that hold, and those of these Dagster runs.

    Args:
        connection: the ledger.
        now: the time.
        run_ids: Dagster runs.
    """
    rows = connection.execute(
        select(RUNS.c.owner, RUNS.c.run_id, RUNS.c.lease_until).where(
            or_(RUNS.c.lease_until > now, RUNS.c.run_id.in_(sorted(run_ids)))
        )
    )
    return [RunLease(**row) for row in rows.mappings()]


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
    """The balance as it was last seen; None when nobody has recorded one."""
    text = reads.meta(connection, BALANCE_KEY)
    if text is None:
        return None
    try:
        document = json.loads(text)
        return Balance(
            balance_usd=Decimal(document["balance_usd"]),
            observed_at=datetime.fromisoformat(document["observed_at"]),
        )
    except (ValueError, KeyError, TypeError, InvalidOperation):
        return None  # a note that cannot be read says nothing; the next look at the account replaces it
