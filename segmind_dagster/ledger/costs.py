"""Records costs that no answer reported and the provider's history has; run through `commits`.

Spending, caps and later estimates are corrected at once. `runner.costs` decides when the history is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, func, select, update

from segmind_dagster.ledger.claims import change_all
from segmind_dagster.ledger.money import Totals, report_prices
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, Usd, Utc, whole_nanos
from segmind_dagster.ledger.statements import in_chunks
from segmind_dagster.lifecycle.budget import ScopeNames

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy import Connection

_REPORTED = {"cost_usd": bindparam("reported_usd", type_=Usd), "cost_source": "history"}
_REPORT_ATTEMPT = update(ATTEMPTS).where(ATTEMPTS.c.request_id == bindparam("reported_id")).values(**_REPORTED)
# a generation that was sent again since keeps the cost of its last request
_REPORT_GENERATION = (
    update(GENERATIONS)
    .where(GENERATIONS.c.generation_id == bindparam("held_id"), GENERATIONS.c.request_id == bindparam("reported_id"))
    .values(**_REPORTED, updated_at=bindparam("reported_at", type_=Utc))
)


class ReportedCost(NamedTuple):
    """The cost in the history of a request that was charged at an estimate.

    Args:
        generation_id: whose it is.
        request_id: the request.
        model_slug: its model.
        prompt_set: the set that pays.
        cost_usd: what it cost.
        estimate_usd: what was charged before.
    """

    generation_id: str
    request_id: str
    model_slug: str
    prompt_set: str
    cost_usd: Decimal
    estimate_usd: Decimal

    @property
    def difference_usd(self) -> Decimal:
        """What that adds to the estimate; negative where that was too high."""
        return self.cost_usd - self.estimate_usd


def report_costs(connection: Connection, costs: Mapping[str, Decimal], *, now: datetime) -> list[ReportedCost]:
    """Replace estimates by costs from the history, by request id; reported costs stay.

    Returns those that were corrected.
    """
    columns = ATTEMPTS.c
    rows = [
        row
        for chunk in in_chunks(sorted(costs))
        for row in connection.execute(
            select(
                columns.generation_id, columns.request_id, columns.model_slug, columns.prompt_set, columns.intent_at,
                columns.cost_usd, func.coalesce(columns.run_id, columns.owner).label("run"),
            ).where(
                columns.request_id.in_(chunk), columns.cost_source == "estimated", columns.cost_usd.is_not(None)
            )
        )
    ]  # fmt: skip
    if not rows:
        return []
    reported: list[ReportedCost] = []
    totals = Totals(connection)
    for row in rows:
        each = ReportedCost(
            row.generation_id, row.request_id, row.model_slug, row.prompt_set,
            whole_nanos(costs[row.request_id]), row.cost_usd,
        )  # fmt: skip
        reported.append(each)
        totals.add(ScopeNames(row.intent_at.date().isoformat(), row.run, row.prompt_set), each.difference_usd)
    of_generations = [
        {
            "held_id": row.generation_id,
            "reported_id": row.request_id,
            "reported_usd": whole_nanos(costs[row.request_id]),
            "reported_at": now,
        }
        for row in rows
    ]  # fmt: skip
    of_attempts = [{name: each[name] for name in ("reported_id", "reported_usd")} for each in of_generations]
    change_all(connection, _REPORT_ATTEMPT, of_attempts)
    connection.execute(_REPORT_GENERATION, of_generations)
    totals.write()
    report_prices(connection, [(row.model_slug, costs[row.request_id], now) for row in rows])
    return reported
