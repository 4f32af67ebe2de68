"""The statements that run at least once for every generation, built once: building costs more than running.

Parameters are named `held_...` for required values, `new_...` for new values, and `ids` for the rows.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Update, and_, bindparam, case, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, IS_UNREPORTED, REPORTED_PRICES, SPENDING, Utc
from segmind_dagster.lifecycle.budget import SCOPES
from segmind_dagster.lifecycle.states import attempt_origins, origins

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Table

    from segmind_dagster.lifecycle.states import AttemptState, State

_OF_GENERATION = GENERATIONS.c.generation_id == bindparam("held_id")
_OF_ATTEMPT = (ATTEMPTS.c.generation_id == bindparam("held_id")) & (ATTEMPTS.c.attempt == bindparam("held_attempt"))
_CHUNK = 500

COMMITTED = select(SPENDING.c.scope, SPENDING.c.name, SPENDING.c.committed_usd).where(
    SPENDING.c.scope.in_(SCOPES), SPENDING.c.name.in_(bindparam("names", expanding=True))
)
STATES = select(
    GENERATIONS.c.generation_id,
    GENERATIONS.c.state,
    GENERATIONS.c.owner,
    GENERATIONS.c.attempts,
    GENERATIONS.c.model_slug,
    GENERATIONS.c.resource,
).where(GENERATIONS.c.generation_id.in_(bindparam("ids", expanding=True)))
RESERVED = select(
    ATTEMPTS.c.generation_id,
    ATTEMPTS.c.attempt,
    ATTEMPTS.c.intent_at,
    ATTEMPTS.c.model_slug,
    ATTEMPTS.c.prompt_set,
    func.coalesce(ATTEMPTS.c.run_id, ATTEMPTS.c.owner).label("run"),
    ATTEMPTS.c.cost_source,
    func.coalesce(ATTEMPTS.c.cost_usd, ATTEMPTS.c.reserved_usd).label("usd"),
    ATTEMPTS.c.cost_usd.is_not(None).label("is_charged"),
).where(ATTEMPTS.c.generation_id.in_(bindparam("ids", expanding=True)))
REQUESTS = select(ATTEMPTS.c.request_id, ATTEMPTS.c.generation_id, ATTEMPTS.c.attempt).where(
    ATTEMPTS.c.request_id.in_(bindparam("ids", expanding=True))
)
# in the order of `attempts_unreported`, so that nothing is sorted
_ALIKE = (
    ATTEMPTS.c.model_slug,
    ATTEMPTS.c.prompt_set,
    ATTEMPTS.c.state,
    ATTEMPTS.c.run_id,
    ATTEMPTS.c.owner,
    ATTEMPTS.c.reserved_usd,
    ATTEMPTS.c.cost_usd,
)
_IS_OF_DAY = and_(
    ATTEMPTS.c.intent_at >= bindparam("day_begins", type_=Utc), ATTEMPTS.c.intent_at < bindparam("day_ends", type_=Utc)
)
EXPOSURES = (
    select(*_ALIKE, func.count().label("attempts"), func.sum(case((_IS_OF_DAY, 1), else_=0)).label("of_day"))
    .where(IS_UNREPORTED, or_(ATTEMPTS.c.cost_usd.is_(None), ATTEMPTS.c.intent_at >= bindparam("since", type_=Utc)))
    .group_by(*_ALIKE)
)
PRICES = select(REPORTED_PRICES).where(REPORTED_PRICES.c.model_slug.in_(bindparam("slugs", expanding=True)))
CLAIM = (
    update(GENERATIONS)
    .where(_OF_GENERATION, or_(*(GENERATIONS.c.state == origin for origin in origins("submitting"))))
    .values(
        state="submitting",
        attempts=GENERATIONS.c.attempts + 1,
        failure_kind=None,
        error=None,
        **{
            name: bindparam(f"new_{name}", type_=GENERATIONS.c[name].type)
            for name in ("owner", "prompt_set", "run_id", "intent_at", "updated_at")
        },
    )
)
ENTER_ATTEMPT = insert(ATTEMPTS)


@cache
def upsert(dialect_name: str, table: Table, *columns: str, where: ColumnElement[bool] | None = None) -> Any:
    """An INSERT that updates these columns of an existing row, or does nothing when none is named.

    Args:
        dialect_name: of the connection, because ON CONFLICT is not SQLAlchemy's common tongue.
        table: where; its primary key says which row is the same.
        columns: what becomes as in the new row.
        where: which rows may be changed; all when omitted.
    """
    rows = _insert(dialect_name, table)
    if not columns:
        return rows.on_conflict_do_nothing()
    changes = {name: rows.excluded[name] for name in columns}
    return rows.on_conflict_do_update(index_elements=table.primary_key.columns, set_=changes, where=where)


@cache
def add_spending(dialect_name: str) -> Any:
    """Add an amount to running totals, or create them."""
    rows = _insert(dialect_name, SPENDING)
    total = SPENDING.c.committed_usd + rows.excluded.committed_usd
    return rows.on_conflict_do_update(index_elements=SPENDING.primary_key.columns, set_={"committed_usd": total})


def enter_prices(dialect_name: str) -> Any:
    """What is known of models' prices by now."""
    return upsert(dialect_name, REPORTED_PRICES, "highest_usd", "reported_at")


@cache
def move(target: State, names: tuple[str, ...]) -> Update:
    """A generation's move to a state, with these columns, from every state that allows it, for the claim's holder."""
    return (
        update(GENERATIONS)
        .where(
            _OF_GENERATION,
            # one comparison per state: IN cannot be sent for many rows at once
            or_(*(GENERATIONS.c.state == origin for origin in origins(target))),
            GENERATIONS.c.owner == bindparam("held_owner"),
            GENERATIONS.c.attempts == bindparam("held_attempt"),
        )
        .values(state=target, **_columns(GENERATIONS, names))
    )


@cache
def move_attempt(target: AttemptState, names: tuple[str, ...]) -> Update:
    """An attempt's move to a state, with these columns, from every state that allows it."""
    return (
        update(ATTEMPTS)
        .where(_OF_ATTEMPT, or_(*(ATTEMPTS.c.state == origin for origin in attempt_origins(target))))
        .values(state=target, **_columns(ATTEMPTS, names))
    )


def in_chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """These values, as many at a time as one IN takes in any database."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def new(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by column as parameters of `move` and `move_attempt`."""
    return {f"new_{name}": value for name, value in values.items()}


def names_in(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns that such parameters change."""
    return tuple(sorted(name.removeprefix("new_") for name in parameters if name.startswith("new_")))


def _insert(dialect_name: str, table: Table) -> Any:
    return (postgresql if dialect_name == "postgresql" else sqlite).insert(table)


def _columns(table: Table, names: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
    if "seed" in found:
        # the seed that was sent stays where the provider reports none
        found["seed"] = func.coalesce(found["seed"], table.c["seed"])
    return found
