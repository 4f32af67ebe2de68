"""Queries of the ledger for runs and commands, as functions of one connection. Nothing here writes."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, and_, exists, func, or_, select, union_all

from segmind_dagster.ledger import money
from segmind_dagster.ledger.records import (
    ABSENT_BY_WORD,
    InferredAbsent,
    ModelDeliveries,
    OwnedRequest,
    Spent,
    UnaccountedAttempt,
)
from segmind_dagster.ledger.schema import (
    ATTEMPTS,
    GENERATIONS,
    IS_OPEN,
    IS_UNREPORTED,
    MAY_BE_PAID_FAILURE,
    META,
    MODEL_PRICES,
    SET_GENERATIONS,
    UPLOADS,
)
from segmind_dagster.ledger.statements import in_chunks
from segmind_dagster.lifecycle.generation import Generation, ImageInput
from segmind_dagster.lifecycle.matching import Accepted, Submission
from segmind_dagster.lifecycle.parsing import FREE
from segmind_dagster.lifecycle.states import IN_PROGRESS
from segmind_dagster.registry import recorded_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, ScalarSelect

    from segmind_dagster.lifecycle.budget import Scope

_RECENT = 200
_ACCEPTED_STATUSES = range(200, 300)
# what is answered with an error is over long before
_LONGEST_ATTEMPT = timedelta(hours=2)
_IN_PROGRESS = and_(IS_OPEN, GENERATIONS.c.state.in_(IN_PROGRESS))


def snapshot(
    connection: Connection,
    generation_ids: Sequence[str],
    *,
    is_alive: Callable[[str, Connection], bool],
    uncounted_kinds: Collection[str] | None = None,
) -> dict[str, Generation]:
    """The records of these generations; unknown ones are left out.

    Args:
        connection: the ledger.
        generation_ids: which.
        is_alive: whether a run is still alive.
        uncounted_kinds: kinds of failure whose runs do not count as failed; None: failed runs are not wanted.
    """
    further = () if uncounted_kinds is None else (failed_runs_of(uncounted_kinds).label("failed_runs"),)
    found: dict[str, Generation] = {}
    for chunk in in_chunks(generation_ids):
        query = select_records(*further).where(GENERATIONS.c.generation_id.in_(chunk))
        records = read_records(connection, query, is_alive)
        found.update((record.generation_id, record) for record in records)
    return found


def unfinished(
    connection: Connection,
    *,
    is_alive: Callable[[str, Connection], bool],
    also_paid: bool = False,
) -> list[Generation]:
    """Everything sent whose outcome is open and that no live run owns, oldest first.

    Args:
        connection: the ledger.
        is_alive: whether a run is still alive.
        also_paid: whether failures that were paid for, or may be, are wanted as well.
    """
    columns = GENERATIONS.c
    owners = connection.execute(select(columns.owner).where(_IN_PROGRESS, columns.owner.is_not(None)).distinct())
    # generations of live runs may be most of them, with long bodies: they are not even read
    living = [owner for owner in owners.scalars().all() if is_alive(owner, connection)]
    others = [or_(columns.owner.is_(None), columns.owner.not_in(living))] if living else []
    kinds = [and_(_IN_PROGRESS, *others), *([and_(IS_OPEN, MAY_BE_PAID_FAILURE)] if also_paid else [])]
    # selected from the index, before a row is read
    wanted = union_all(*(select(columns.generation_id).where(kind) for kind in kinds))
    query = select_records(columns.body, columns.images)
    query = query.where(columns.generation_id.in_(wanted)).order_by(columns.intent_at)
    records = read_records(connection, query, is_alive)
    # a run that began between the two statements may own it now
    return [record for record in records if not record.is_owner_alive]


def owners(connection: Connection) -> list[str]:
    """Every run that still owns a generation."""
    return list(connection.execute(select(GENERATIONS.c.owner).where(_IN_PROGRESS).distinct()).scalars())


def spent(connection: Connection, *, run_id: str | None, day: str, prompt_set: str) -> Spent:
    """Money committed by a run, on a day and by a set: charged, or reserved for what is in progress."""
    names: dict[Scope, str | None] = {"run": run_id, "day": day, "set": prompt_set}
    committed = money.committed(connection, {name for name in names.values() if name is not None})
    open_usd: defaultdict[tuple[Scope, str], Decimal] = defaultdict(Decimal)
    for exposure in money.open_exposures(connection, day=date.fromisoformat(day)):
        for key in exposure.scopes.pairs():
            open_usd[key] += exposure.counted_usd
    return Spent(
        **{f"{scope}_usd": committed.get((scope, name or ""), FREE) for scope, name in names.items()},
        reserved={scope: open_usd[scope, name or ""] for scope, name in names.items()},
    )


def observed(connection: Connection, model_slugs: Iterable[str]) -> dict[str, tuple[list[Decimal], list[int]]]:
    """Recent reported costs in USD and latencies in ms of each model on this account."""
    seen: dict[str, tuple[list[Decimal], list[int]]] = {}
    for slug in model_slugs:
        rows = connection.execute(
            select(ATTEMPTS.c.cost_usd, ATTEMPTS.c.cost_source, ATTEMPTS.c.latency_ms)
            .where(ATTEMPTS.c.model_slug == slug, ATTEMPTS.c.state == "succeeded")
            .order_by(ATTEMPTS.c.completed_at.desc())
            .limit(_RECENT)
        ).all()
        costs = [row.cost_usd for row in rows if row.cost_source != "estimated" and row.cost_usd is not None]
        latencies = [row.latency_ms for row in rows if row.latency_ms is not None]
        if costs or latencies:
            seen[slug] = (costs, latencies)
    return seen


def deliveries(
    connection: Connection, model_slugs: Iterable[str], *, bad_kinds: Collection[str]
) -> dict[str, ModelDeliveries]:
    """What each model has delivered for its charges."""
    columns = ATTEMPTS.c
    found: dict[str, ModelDeliveries] = {}
    for slug in model_slugs:
        # by the time of purchase: an old one may be fetched, or fail again, after younger ones failed
        recent = (
            select(columns.intent_at)
            .where(columns.model_slug == slug, columns.state == "succeeded")
            .order_by(columns.completed_at.desc())
            .limit(_RECENT)
        )
        good = connection.execute(recent).scalars().all()
        bad = connection.execute(
            select(columns.generation_id, columns.attempt, columns.cost_usd, columns.intent_at).where(
                columns.model_slug == slug, columns.state == "failed", columns.failure_kind.in_(sorted(bad_kinds))
            )
        ).all()
        lately = [row for row in bad if not good or row.intent_at > max(good)]
        found[slug] = ModelDeliveries(
            has_delivered=bool(good),
            bad=frozenset((row.generation_id, row.attempt) for row in bad),
            bad_lately=len(lately),
            bad_lately_usd=sum((row.cost_usd or FREE for row in lately), FREE),
        )
    return found


def highest_costs(connection: Connection, model_slugs: Iterable[str]) -> dict[str, Decimal]:
    """The most that a recent attempt of each model was charged, as reported; used or not."""
    columns = ATTEMPTS.c
    found: dict[str, Decimal] = {}
    for slug in model_slugs:
        for state in ("succeeded", "failed"):
            costs = connection.execute(
                select(columns.cost_usd)
                .where(columns.model_slug == slug, columns.state == state, columns.cost_usd > FREE)
                .where(func.coalesce(columns.cost_source, "") != "estimated")
                .order_by(columns.completed_at.desc())
                .limit(_RECENT)
            ).scalars()
            for cost_usd in costs:
                found[slug] = max(cost_usd, found.get(slug, FREE))
    return found


def model_prices(connection: Connection, model_slugs: Sequence[str]) -> dict[str, tuple[Decimal | None, int | None]]:
    """Mean cost in USD and mean latency in ms of each model, as the models list gave them last."""
    rows = connection.execute(select(MODEL_PRICES).where(MODEL_PRICES.c.model_slug.in_(model_slugs)))
    return {row.model_slug: (row.cost_usd, row.latency_ms) for row in rows}


def owned_requests(connection: Connection, request_ids: Sequence[str]) -> dict[str, OwnedRequest]:
    """Which of these request ids the ledger knows: their models, and when their intent was recorded."""
    columns = ATTEMPTS.c
    owned: dict[str, OwnedRequest] = {}
    for chunk in in_chunks(request_ids):
        query = select(columns.request_id, columns.model_slug, columns.intent_at).where(columns.request_id.in_(chunk))
        owned.update((row.request_id, OwnedRequest(row.model_slug, row.intent_at)) for row in connection.execute(query))
    return owned


def was_adopted(connection: Connection, request_id: str) -> bool:
    """Whether a request was found in the history, rather than named by the answer to a POST."""
    query = select(ATTEMPTS.c.http_status).where(ATTEMPTS.c.request_id == request_id)
    row = connection.execute(query).one_or_none()
    return row is not None and _is_adopted(row.http_status)


def _is_adopted(http_status: int | None) -> bool:
    """Whether the answer to a POST cannot have named its request: there was no answer, or an error."""
    return http_status not in _ACCEPTED_STATUSES


def unreported(connection: Connection, *, since: datetime, most: int) -> dict[str, datetime]:
    """Requests that were charged at an estimate because no answer reported their cost, the newest first.

    Returns when their intent was recorded, by request id.
    """
    columns = ATTEMPTS.c
    # expressions that match `attempts_unreported`: recent attempts may be millions, unreported ones are few
    sent_at = func.coalesce(columns.intent_at, columns.submitted_at)
    has_request = func.coalesce(columns.request_id, "") != ""
    rows = connection.execute(
        select(columns.request_id, columns.intent_at)
        .where(IS_UNREPORTED, columns.cost_usd.is_not(None), has_request, sent_at >= since)
        .order_by(sent_at.desc())
        .limit(most)
    )
    return {row.request_id: row.intent_at for row in rows}


def accepted_since(connection: Connection, moment: datetime) -> list[Accepted]:
    """Requests sent since a time that were accepted and did not fail.

    A request found in the history counts as accepted when it was sent: when it was found does not show what the
    history must list beside it.
    """
    columns = ATTEMPTS.c
    rows = connection.execute(
        select(
            columns.request_id,
            columns.model_slug,
            columns.intent_at,
            columns.submitted_at,
            columns.http_status,
        ).where(
            columns.intent_at >= moment,
            columns.state.in_(("submitted", "succeeded")),
            columns.request_id.is_not(None),
            columns.submitted_at.is_not(None),
        )
    )
    return [
        Accepted(
            request_id=row.request_id,
            model_slug=row.model_slug,
            accepted_at=row.intent_at if _is_adopted(row.http_status) else row.submitted_at,
            is_answered=not _is_adopted(row.http_status),
        )
        for row in rows
    ]


def newest_accepted_at(connection: Connection) -> datetime | None:
    """When the newest request that the ledger knows was accepted."""
    query = select(ATTEMPTS.c.submitted_at).where(ATTEMPTS.c.submitted_at.is_not(None))
    newest: datetime | None = connection.execute(query.order_by(ATTEMPTS.c.intent_at.desc()).limit(1)).scalar()
    return newest


def unanswered(connection: Connection) -> list[Submission]:
    """Every pending submission without a known request id, local files left out; by generation id."""
    columns = GENERATIONS.c
    rows = connection.execute(
        select(columns.generation_id, columns.model_slug, columns.body, columns.intent_at).where(
            IS_OPEN, columns.state.in_(("submitting", "unknown"))
        )
    )
    return [
        Submission(key=row.generation_id, model_slug=row.model_slug, body=row.body, sent_at=row.intent_at)
        for row in rows
    ]


def unaccounted(connection: Connection, *, since: datetime) -> list[UnaccountedAttempt]:
    """POSTs since then that count as never accepted, by inference or an error answer; their request ids are unknown."""
    columns = ATTEMPTS.c
    is_inferred = columns.state == "absent"
    was_refused = and_(columns.state == "failed", columns.http_status.is_not(None))
    rows = connection.execute(
        select(
            columns.generation_id, columns.attempt, columns.state, columns.model_slug, columns.intent_at,
            columns.failure_kind, columns.error, columns.completed_at, GENERATIONS.c.body, GENERATIONS.c.attempts,
            GENERATIONS.c.state.label("generation_state"),
        )
        .join_from(ATTEMPTS, GENERATIONS, columns.generation_id == GENERATIONS.c.generation_id)
        .where(columns.request_id.is_(None), columns.intent_at >= since, or_(is_inferred, was_refused))
        .order_by(columns.intent_at)
    )  # fmt: skip
    return [
        UnaccountedAttempt(
            generation_id=row.generation_id,
            attempt=row.attempt,
            is_inferred=row.state == "absent",
            is_unpaid=row.generation_state in {"planned", "failed"},
            ended_at=row.completed_at or row.intent_at,
            is_declared=row.error == ABSENT_BY_WORD,
            submission=Submission(
                key=f"{row.generation_id}/{row.attempt}",
                model_slug=row.model_slug,
                body=row.body,
                sent_at=row.intent_at,
            ),
        )
        for row in rows
    ]


def refused_since(connection: Connection, moment: datetime, *, without: Collection[str]) -> dict[str, datetime]:
    """When an attempt ended since then with an error answer to its POST, by generation; the latest.

    Args:
        connection: the ledger.
        moment: since when.
        without: kinds of failure that do not count.
    """
    columns = ATTEMPTS.c
    rows = connection.execute(
        select(columns.generation_id, func.max(columns.completed_at).label("ended_at"))
        .where(
            columns.request_id.is_(None), columns.state == "failed", columns.http_status.is_not(None),
            columns.completed_at >= moment, columns.failure_kind.not_in(sorted(without)),
            columns.intent_at >= moment - _LONGEST_ATTEMPT,
        )
        .group_by(columns.generation_id)
    )  # fmt: skip
    return {row.generation_id: row.ended_at for row in rows}


def inferred_absent(
    connection: Connection, *, since: datetime, resource: str | None = None, prompt_set: str | None = None
) -> InferredAbsent:
    """Submissions since a time that are inferred never to have arrived, of a model and the set that pays, or of all."""
    columns = ATTEMPTS.c
    query = select(func.count(), func.sum(columns.reserved_usd)).where(
        columns.state == "absent", columns.intent_at >= since, columns.request_id.is_(None)
    )
    if resource is not None:
        query = query.where(columns.resource == resource, columns.prompt_set == prompt_set)
    count, usd = connection.execute(query).one()
    return InferredAbsent(count, usd or FREE)


def upload_url(connection: Connection, sha256: str, *, since: datetime | None = None) -> str | None:
    """The URL of an uploaded input file, if there is one; not older than a given time."""
    query = select(UPLOADS.c.url).where(UPLOADS.c.sha256 == sha256)
    return connection.execute(query if since is None else query.where(UPLOADS.c.uploaded_at >= since)).scalar()


def meta(connection: Connection, key: str) -> str | None:
    """A value of `meta`, about the ledger as a whole."""
    return connection.execute(select(META.c.value).where(META.c.key == key)).scalar()


def is_empty(connection: Connection) -> bool:
    """Whether no generation was ever recorded."""
    return connection.execute(select(GENERATIONS.c.generation_id).limit(1)).first() is None


def totals(connection: Connection) -> dict[str, tuple[int, Decimal]]:
    """Count and cost of generations by state, without planned ones that no set has any more."""
    columns = GENERATIONS.c
    rows = connection.execute(
        select(columns.state, func.count().label("generations"), func.sum(columns.cost_usd).label("usd")).group_by(
            columns.state
        )
    )
    found = {row.state: (row.generations, row.usd or FREE) for row in rows}
    if "planned" in found:
        is_asked_for = exists().where(
            SET_GENERATIONS.c.generation_id == columns.generation_id, SET_GENERATIONS.c.is_current
        )
        wanted = connection.execute(
            select(func.count()).select_from(GENERATIONS).where(columns.state == "planned", is_asked_for)
        ).scalar_one()
        found["planned"] = (wanted, found["planned"][1])
    return {state: total for state, total in found.items() if total[0]}


def unknown_costs(connection: Connection) -> dict[str, int]:
    """How many generations by state have an unknown cost."""
    columns = GENERATIONS.c
    may_be_charged = columns.state.in_((*IN_PROGRESS, "succeeded"))
    rows = connection.execute(
        select(columns.state, func.count().label("generations"))
        .where(may_be_charged, columns.cost_usd.is_(None))
        .group_by(columns.state)
    )
    return {row.state: row.generations for row in rows}


def reserved(connection: Connection) -> Decimal:
    """What is reserved for submissions that are not charged yet, in USD."""
    is_open = ATTEMPTS.c.state.in_(IN_PROGRESS) & ATTEMPTS.c.cost_usd.is_(None)
    return connection.execute(select(func.sum(ATTEMPTS.c.reserved_usd)).where(is_open)).scalar() or FREE


def charged(connection: Connection) -> Decimal:
    """Everything charged or estimated so far, in USD, over all attempts."""
    return connection.execute(select(func.sum(ATTEMPTS.c.cost_usd))).scalar() or FREE


def paid_for(connection: Connection, attempts: Collection[tuple[str, int]]) -> Decimal:
    """The sum charged for these attempts (generation and number), in USD, as far as it is known."""
    total = FREE
    for chunk in in_chunks(sorted({generation_id for generation_id, _ in attempts})):
        rows = connection.execute(
            select(ATTEMPTS.c.generation_id, ATTEMPTS.c.attempt, ATTEMPTS.c.cost_usd).where(
                ATTEMPTS.c.generation_id.in_(chunk)
            )
        )
        total += sum((row.cost_usd or FREE for row in rows if (row.generation_id, row.attempt) in attempts), FREE)
    return total


def outstanding(connection: Connection, generation_ids: Sequence[str]) -> list[tuple[str, Decimal]]:
    """State and cost of the given generations that are paid, or may be, and are not stored.

    The cost is what was charged, else what is reserved.
    """
    columns, latest = GENERATIONS.c, ATTEMPTS.c
    usd = func.coalesce(latest.cost_usd, latest.reserved_usd).label("usd")
    found: list[tuple[str, Decimal]] = []
    for chunk in in_chunks(generation_ids):
        rows = connection.execute(
            select(columns.state, usd)
            .join_from(
                GENERATIONS,
                ATTEMPTS,
                and_(latest.generation_id == columns.generation_id, latest.attempt == columns.attempts),
            )
            .where(columns.generation_id.in_(chunk), or_(columns.state.in_(IN_PROGRESS), MAY_BE_PAID_FAILURE))
        )
        found += [(row.state, row.usd or FREE) for row in rows]
    return found


def set_keys(connection: Connection) -> list[str]:
    """Keys of all prompt sets that ever had a generation, in order."""
    keys = select(SET_GENERATIONS.c.prompt_set).distinct().order_by(SET_GENERATIONS.c.prompt_set)
    return list(connection.execute(keys).scalars())


def set_rows(
    connection: Connection, *, resource: str, prompt_sets: Sequence[str] | None
) -> Iterator[Mapping[str, Any]]:
    """A model's generations as each of these prompt sets, or of all, sees them, with whether that set paid for them."""
    query = (
        select(
            GENERATIONS,
            SET_GENERATIONS.c.prompt_set.label("set_key"),
            SET_GENERATIONS.c.is_current,
            SET_GENERATIONS.c.asked_at,
            (GENERATIONS.c.prompt_set != SET_GENERATIONS.c.prompt_set).label("is_reused"),
        )
        .join_from(SET_GENERATIONS, GENERATIONS, SET_GENERATIONS.c.generation_id == GENERATIONS.c.generation_id)
        .where(SET_GENERATIONS.c.resource == resource)
        .order_by(SET_GENERATIONS.c.prompt_set, SET_GENERATIONS.c.position)
    )
    if prompt_sets is not None:
        query = query.where(SET_GENERATIONS.c.prompt_set.in_(prompt_sets))
    yield from _stream(connection, query)


def attempt_rows(
    connection: Connection, *, resources: Sequence[str], prompt_sets: Sequence[str] | None
) -> Iterator[Mapping[str, Any]]:
    """The POSTs sent for these models, of the generations that these sets hold (of all when None)."""
    query = select(ATTEMPTS).where(ATTEMPTS.c.resource.in_(resources)).order_by(ATTEMPTS.c.intent_at)
    if prompt_sets is not None:
        held = select(SET_GENERATIONS.c.generation_id).where(
            and_(SET_GENERATIONS.c.prompt_set.in_(prompt_sets), SET_GENERATIONS.c.resource.in_(resources))
        )
        query = query.where(ATTEMPTS.c.generation_id.in_(held))
    yield from _stream(connection, query)


def _stream(connection: Connection, query: Select[Any]) -> Iterator[Mapping[str, Any]]:
    for row in connection.execution_options(yield_per=1000).execute(query).mappings():
        yield dict(row)


def failed_runs_of(uncounted_kinds: Collection[str]) -> ScalarSelect[int]:
    """In how many runs an attempt at a generation of the surrounding query failed.

    Args:
        uncounted_kinds: kinds of failure that say nothing about a generation, so that their runs do not count.
    """
    kind = ATTEMPTS.c.failure_kind
    # the first is implied by the second, but needed to use the index `attempts_failed`
    counts = kind.is_not(None), kind.not_in(sorted(uncounted_kinds))
    return (
        select(func.count(ATTEMPTS.c.owner.distinct()))
        .where(ATTEMPTS.c.generation_id == GENERATIONS.c.generation_id, *counts)
        .scalar_subquery()
    )


def select_records(*further: ColumnElement[Any]) -> Select[Any]:
    """What a `Generation` needs of the ledger; `read_records` makes them of it."""
    columns = GENERATIONS.c
    return select(
        columns.generation_id, columns.model_slug, columns.resource, columns.prompt_set, columns.state, columns.owner,
        columns.attempts, columns.request_id, columns.submitted_at, columns.intent_at, columns.failure_kind,
        columns.error, columns.cost_usd, columns.output_uri, *further,
    )  # fmt: skip


def read_records(
    connection: Connection, query: Select[Any], is_alive: Callable[[str, Connection], bool]
) -> list[Generation]:
    """The generations that a query of `select_records` finds."""
    result = connection.execute(query)
    # once for all rows: the mapping of a row looks its names up each time
    names = tuple(result.keys())
    return [_generation(dict(zip(names, row, strict=True)), connection, is_alive) for row in result.all()]


def _generation(
    values: dict[str, Any], connection: Connection, is_alive: Callable[[str, Connection], bool]
) -> Generation:
    owner = values["owner"]
    model = recorded_model(values.pop("model_slug"), values.pop("resource"))
    digests: Mapping[str, str] = values.pop("images", None) or {}
    return Generation(
        **values,
        model=model,
        images={name: ImageInput(None, None, sha256) for name, sha256 in digests.items()},
        is_owner_alive=owner is not None and is_alive(owner, connection),
    )
