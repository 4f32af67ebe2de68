"""Records what is not a state change: what sets ask for, upload URLs, prices, the balance.

State changes of generations, and money, are in `moves` and `writes`; leases of runs in `leases`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import update
from sqlalchemy.dialects import postgresql, sqlite

from segmind_dagster.ledger.schema import BALANCE_KEY, GENERATIONS, META, MODEL_PRICES, SET_GENERATIONS, UPLOADS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy import Connection, Table


def upsert(connection: Connection, table: Table) -> Any:
    """An INSERT that can carry ON CONFLICT, in the connection's dialect."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def register_set(
    connection: Connection,
    *,
    prompt_set: str,
    resource: str,
    generations: Sequence[Mapping[str, Any]],
    now: datetime,
) -> None:
    """Record what a prompt set asks of a model now; other generations of the set stay, not current.

    The time at which a set first asked for a generation never changes.

    Args:
        connection: the ledger.
        prompt_set: the set's key.
        resource: the model's resource name.
        generations: columns of `generations`, in the set's order.
        now: the time.
    """
    connection.execute(
        update(SET_GENERATIONS)
        .where(SET_GENERATIONS.c.prompt_set == prompt_set, SET_GENERATIONS.c.resource == resource)
        .values(is_current=False)
    )
    if not generations:
        return
    fixed = {"resource": resource, "prompt_set": prompt_set, "state": "planned", "attempts": 0, "updated_at": now}
    connection.execute(
        upsert(connection, GENERATIONS).on_conflict_do_nothing(), [{**row, **fixed} for row in generations]
    )
    rows = upsert(connection, SET_GENERATIONS)
    connection.execute(
        rows.on_conflict_do_update(
            index_elements=["prompt_set", "generation_id"],
            set_={"is_current": True, "position": rows.excluded.position},
        ),
        [
            {
                "prompt_set": prompt_set,
                "generation_id": row["generation_id"],
                "resource": resource,
                "position": position,
                "is_current": True,
                "asked_at": now,
            }
            for position, row in enumerate(generations)
        ],
    )


def record_upload(connection: Connection, *, sha256: str, url: str, now: datetime) -> None:
    """Record the URL of an uploaded input file."""
    rows = upsert(connection, UPLOADS)
    connection.execute(
        rows.on_conflict_do_update(
            index_elements=["sha256"], set_={"url": rows.excluded.url, "uploaded_at": rows.excluded.uploaded_at}
        ),
        {"sha256": sha256, "url": url, "uploaded_at": now},
    )


def record_model_prices(
    connection: Connection, prices: Mapping[str, tuple[Decimal | None, int | None]], *, now: datetime
) -> None:
    """Record prices and latencies of the models list.

    Args:
        connection: the ledger.
        prices: mean cost in USD and mean latency in ms by model slug; None where the list says nothing.
        now: the time.
    """
    if not prices:
        return
    rows = upsert(connection, MODEL_PRICES)
    connection.execute(
        rows.on_conflict_do_update(
            index_elements=["model_slug"],
            set_={name: rows.excluded[name] for name in ("cost_usd", "latency_ms", "observed_at")},
        ),
        [
            {"model_slug": slug, "cost_usd": cost_usd, "latency_ms": latency_ms, "observed_at": now}
            for slug, (cost_usd, latency_ms) in prices.items()
        ],
    )


def record_balance(connection: Connection, *, balance_usd: Decimal, now: datetime) -> None:
    """Record the balance of the account; `sensor_reads.balance` reads it."""
    seen = {"balance_usd": str(balance_usd), "observed_at": now.isoformat()}
    note(connection, {BALANCE_KEY: json.dumps(seen)})


def note(connection: Connection, values: Mapping[str, str]) -> None:
    """Set values of `meta` by key; earlier values are replaced."""
    rows = upsert(connection, META)
    connection.execute(
        rows.on_conflict_do_update(index_elements=["key"], set_={"value": rows.excluded.value}),
        [{"key": key, "value": value} for key, value in values.items()],
    )
