"""Lists what a run has to do: its plans, and what earlier runs left behind. Nothing is sent here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segmind_dagster.ledger import reads
from segmind_dagster.runner.prices import unit_costs

if TYPE_CHECKING:
    from collections.abc import Container

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.planning import Plan
    from segmind_dagster.runner.ports import ClockPort


def planned(plan: Plan) -> list[Generation]:
    """The generations of a plan, without purchases if the plan is refused."""
    if plan.refusal:
        return [generation for generation in plan.generations if generation.step != "submit"]
    return [generation.as_bought() for generation in plan.generations]


def left_behind(
    ledger: Ledger,
    clock: ClockPort,
    *,
    known: Container[str],
    also_paid: bool = False,
) -> list[Generation]:
    """What earlier runs submitted and never stored, of any set, unless a live run owns it.

    Generations of a model without a registry entry stay in the ledger until the entry is back.
    """
    found = ledger.read(reads.unfinished, is_alive=ledger.liveness(clock.monotonic()), also_paid=also_paid)
    wanted = [each for each in found if each.generation_id not in known and each.model.is_listed]
    costs = unit_costs(ledger, sorted({each.model.slug for each in wanted}))
    return [
        each._replace(
            step="collect" if each.state in {"submitted", "failed"} else "look_up",
            unit_cost=costs[each.model.slug],
        )
        for each in wanted
    ]
