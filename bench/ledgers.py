"""Ledgers of any size, made inside the database in seconds; for measuring how they answer, not what they mean.

Nearly everything is finished; some generations failed, each in two runs, and as many are in flight, a quarter of
which no run has any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, Text, case, cast, func, insert, literal, null, select, update

from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, RUNS, SET_GENERATIONS, SPENDING

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Table

_SETS = 100
_RUNS = 1000
_HOLDERS = 20
_LOOSE = 4
_FIRST_AT = 1_750_000_000_000_000
_STEP = 1_000_000  # a second, in microseconds
_NANOS = 1_400_000
_SLUGS = ("fast-flux-schnell", "instantid", "sdxl1.0-newreality-lightning", "face-to-sticker")


def fill(connection: Connection, rows: int, opened: int = 1000) -> None:
    """Put that many generations into an empty SQLite ledger, with their attempts, sets, runs and totals.

    Args:
        connection: the ledger.
        rows: generations; more than twice as many as are `opened`.
        opened: how many of them are in flight, and how many failed.
    """
    numbers = select(literal(0).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < rows - 1))
    n = numbers.c.n
    state = case((n >= rows - opened, "submitted"), (n >= rows - 2 * opened, "failed"), else_="succeeded")
    at = _FIRST_AT + n * _STEP
    owner = func.printf("owner%05d", n % _HOLDERS)
    slug = case(*((n % len(_SLUGS) == i, name) for i, name in enumerate(_SLUGS)), else_=_SLUGS[0])
    is_done = state == "succeeded"
    _insert(
        connection, GENERATIONS, numbers,
        generation_id=func.lower(func.hex(func.randomblob(16))), model_slug=slug, resource=func.replace(slug, "-", "_"),
        prompt_set=func.printf("set_%03d", n % _SETS), state=state,
        attempts=case((state == "failed", 2), else_=1),
        owner=case(((state == "submitted") & (n % _LOOSE != 0), owner), else_=null()),
        failure_kind=case((state == "failed", "job_failed"), else_=null()),
        prompt=func.printf("prompt number %d, in some detail, in the light of an evening by the sea", n),
        body=func.printf('{"prompt":"prompt number %d, in some detail","seed":%d}', n, n),
        images=literal("{}"), variables=literal("{}"), seed=n, sample=literal(1),
        request_id=func.lower(func.hex(func.randomblob(16))),
        intent_at=at, submitted_at=at, completed_at=case((is_done, at + 3 * _STEP), else_=null()), updated_at=at,
        cost_usd=case((is_done, literal(_NANOS, Integer)), else_=null()), cost_source=literal("reported"),
        latency_ms=2000 + n % 1000, output_uri=func.printf("outputs/picture_%d.jpg", n), output_bytes=literal(200_000),
        run_id=func.printf("run%05d", n % _RUNS),
    )  # fmt: skip
    g = GENERATIONS.c
    free = literal(0, Integer)
    tries: dict[str, Any] = {
        "generation_id": g.generation_id, "attempt": g.attempts, "model_slug": g.model_slug, "resource": g.resource,
        "prompt_set": g.prompt_set, "state": g.state, "owner": func.coalesce(g.owner, "gone"), "run_id": g.run_id,
        "request_id": g.request_id, "failure_kind": g.failure_kind, "reserved_usd": literal(_NANOS, Integer),
        "cost_usd": case((g.state == "failed", free), else_=cast(g.cost_usd, Integer)), "cost_source": g.cost_source,
        "rate_wait_ms": literal(0), "latency_ms": g.latency_ms, "intent_at": cast(g.intent_at, Integer),
        "submitted_at": cast(g.submitted_at, Integer), "completed_at": cast(g.completed_at, Integer),
    }  # fmt: skip
    _insert(connection, ATTEMPTS, GENERATIONS, **tries)
    earlier = {**tries, "attempt": literal(1), "owner": literal("gone earlier"), "request_id": null(), "cost_usd": free}
    _insert(connection, ATTEMPTS, GENERATIONS, g.state == "failed", **earlier)
    _insert(
        connection, SET_GENERATIONS, GENERATIONS,
        prompt_set=g.prompt_set, generation_id=g.generation_id, resource=g.resource, position=g.seed,
        is_current=literal(1, Integer),
    )  # fmt: skip
    runs = select(literal(0).label("n")).cte("runs_made", recursive=True)
    runs = runs.union_all(select(runs.c.n + 1).where(runs.c.n < _RUNS - 1))
    _insert(
        connection, RUNS, runs,
        owner=func.printf("owner%05d", runs.c.n), run_id=func.printf("run%05d", runs.c.n), place=literal("elsewhere"),
        pid=literal(1), started_at=literal(_FIRST_AT), lease_until=literal(_FIRST_AT),
    )  # fmt: skip
    a = ATTEMPTS.c
    for scope, name in (("set", a.prompt_set), ("run", func.coalesce(a.run_id, a.owner))):
        committed = func.sum(func.coalesce(cast(a.cost_usd, Integer), cast(a.reserved_usd, Integer)))
        totals = select(literal(scope, Text), name, committed).group_by(name)
        connection.execute(insert(SPENDING).from_select(["scope", "name", "committed_usd"], totals))


def finish(connection: Connection, *, leaving: int) -> None:
    """Let all but so many of those in flight, and of those that failed, succeed.

    Args:
        connection: a ledger that was filled.
        leaving: how many stay as they are, of each.
    """
    columns = GENERATIONS.c
    for state in ("submitted", "failed"):
        rest = select(columns.generation_id).where(columns.state == state).order_by(columns.seed).offset(leaving)
        connection.execute(
            update(GENERATIONS)
            .where(columns.generation_id.in_(rest))
            .values(state="succeeded", owner=None, failure_kind=None)
        )


def _insert(
    connection: Connection, table: Table, source: Any, *which: ColumnElement[bool], **columns: ColumnElement[Any]
) -> None:
    """Rows made of expressions over a source, without passing through Python."""
    rows = select(*(column.label(f"{name}_") for name, column in columns.items())).select_from(source).where(*which)
    connection.execute(insert(table).from_select(list(columns), rows, include_defaults=False))
