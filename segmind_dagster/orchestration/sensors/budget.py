"""Whether a run that a sensor could ask for may buy anything: a run that would only be refused is never started."""

from datetime import datetime
from decimal import Decimal

from segmind_dagster.ledger import Ledger, reads
from segmind_dagster.lifecycle.generation import Generation
from segmind_dagster.planning import Plan
from segmind_dagster.settings import Settings


def to_buy(plans: list[Plan]) -> list[Generation]:
    """What a run with these plans would buy."""
    return [generation for plan in plans for generation in plan.generations if generation.step == "submit"]


def cheapest_usd(plans: list[Plan]) -> Decimal:
    """The least that one of them may cost; 0 when there is nothing to buy."""
    return min((generation.unit_cost.high for generation in to_buy(plans) if generation.unit_cost), default=Decimal(0))


def why_refused(ledger: Ledger, settings: Settings, plans: list[Plan], *, now: datetime) -> str | None:
    """Which cap stands in the way of a set's plans; the day's only once nothing fits: the rest resumes tomorrow."""
    refusal = next((plan.refusal for plan in plans if plan.refusal), None)
    if refusal is not None or not to_buy(plans):
        return refusal
    prompt_set = plans[0].prompt_set
    used_usd = ledger.read(reads.spent, run_id=None, day=now.date().isoformat(), prompt_set=prompt_set).day_usd
    if used_usd + cheapest_usd(plans) > settings.daily_budget_usd:
        return (
            f"'{prompt_set}' waits for tomorrow (UTC): ${used_usd:.4f} of today's ${settings.daily_budget_usd} is "
            "used; SEGMIND_DAILY_BUDGET_USD raises the cap."
        )
    return None
