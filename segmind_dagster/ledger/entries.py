"""Records what is not a state change: what sets ask for, upload URLs, prices, the balance.

State changes of generations, and money, are in `moves` and `writes`; leases of runs in `leases`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from segmind_dagster.ledger.schema import BALANCE_KEY, GENERATIONS, META, MODEL_PRICES, SET_GENERATIONS, UPLOADS
from segmind_dagster.ledger.statements import upsert

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy import Connection


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
    dialect_name = connection.dialect.name
    connection.execute(upsert(dialect_name, GENERATIONS), [{**row, **fixed} for row in generations])
    connection.execute(
        upsert(dialect_name, SET_GENERATIONS, "is_current", "position"),
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
    connection.execute(
        upsert(connection.dialect.name, UPLOADS, "url", "uploaded_at"),
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
    connection.execute(
        upsert(connection.dialect.name, MODEL_PRICES, "cost_usd", "latency_ms", "observed_at"),
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
    connection.execute(
        upsert(connection.dialect.name, META, "value"),
        [{"key": key, "value": value} for key, value in values.items()],
    )
