"""The statements that run once or more for every generation, built once: building costs more than running.

Parameters are named `held_...` for what must be so and `new_...` for what it becomes.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Update, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, SPENDING
from segmind_dagster.ledger.states import TRANSITIONS, State

if TYPE_CHECKING:
    from sqlalchemy import Table

_OF_GENERATION = GENERATIONS.c.generation_id == bindparam("held_id")
_OF_ATTEMPT = (ATTEMPTS.c.generation_id == bindparam("held_id")) & (ATTEMPTS.c.attempt == bindparam("held_attempt"))

COMMITTED = select(SPENDING.c.scope, SPENDING.c.committed_usd).where(
    or_(*((SPENDING.c.scope == scope) & (SPENDING.c.name == bindparam(scope)) for scope in ("day", "run", "set")))
)
STATE = select(GENERATIONS.c.state, GENERATIONS.c.owner, GENERATIONS.c.attempts).where(_OF_GENERATION)
RESERVED = select(
    ATTEMPTS.c.intent_at,
    ATTEMPTS.c.prompt_set,
    func.coalesce(ATTEMPTS.c.run_id, ATTEMPTS.c.owner).label("run"),
    ATTEMPTS.c.cost_source,
    func.coalesce(ATTEMPTS.c.cost_usd, ATTEMPTS.c.reserved_usd).label("usd"),
).where(_OF_ATTEMPT)
CLAIM = (
    update(GENERATIONS)
    .where(_OF_GENERATION, GENERATIONS.c.state == "planned")
    .values(
        state="submitting",
        attempts=GENERATIONS.c.attempts + 1,
        **{
            name: bindparam(f"new_{name}", type_=GENERATIONS.c[name].type)
            for name in ("owner", "prompt_set", "run_id", "intent_at", "updated_at")
        },
    )
    .returning(GENERATIONS.c.attempts, GENERATIONS.c.model_slug, GENERATIONS.c.resource)
)


ENTER_ATTEMPT = insert(ATTEMPTS)


@cache
def add_spending(dialect_name: str) -> Any:
    """An amount added to running totals, which begin with it.

    Args:
        dialect_name: of the connection, because ON CONFLICT is not SQLAlchemy's common tongue.
    """
    rows = (postgresql if dialect_name == "postgresql" else sqlite).insert(SPENDING)
    return rows.on_conflict_do_update(
        index_elements=["scope", "name"],
        set_={"committed_usd": SPENDING.c.committed_usd + rows.excluded.committed_usd},
    )


@cache
def move(target: State, names: tuple[str, ...]) -> Update:
    """A generation's move to a state, from every state that allows it, for whoever holds the claim.

    Args:
        target: the state.
        names: columns that change with it.
    """
    origins = [state for state, targets in TRANSITIONS.items() if target in targets]
    return (
        update(GENERATIONS)
        .where(
            _OF_GENERATION,
            GENERATIONS.c.state.in_(origins),
            GENERATIONS.c.owner == bindparam("held_owner"),
            GENERATIONS.c.attempts == bindparam("held_attempt"),
        )
        .values(state=target, **_new(GENERATIONS, names))
    )


@cache
def change_attempt(names: tuple[str, ...]) -> Update:
    """A change of one attempt.

    Args:
        names: columns that change.
    """
    return update(ATTEMPTS).where(_OF_ATTEMPT).values(**_new(ATTEMPTS, names))


def _new(table: Table, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
