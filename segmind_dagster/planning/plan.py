"""Decides what happens to each generation a prompt set asks for, and whether the caps allow it.

Plans are all or nothing: if the set's or the run's cap stands in the way of what they need together, nothing of them
is submitted. Every cap is looked at again at each claim (`lifecycle.budget`), because other runs spend too; the day's
only there, so that what it holds back resumes the next day.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from segmind_dagster.lifecycle.budget import Refused, UnitCost
from segmind_dagster.lifecycle.next_step import next_step
from segmind_dagster.planning.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segmind_dagster.ledger.records import Spent
    from segmind_dagster.lifecycle.budget import Caps, Scope
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.lifecycle.next_step import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens to the generations of one prompt set and one model.

    Args:
        prompt_set: the set.
        resource: the model's resource name.
        generations: all that the set asks for, in its order, each with its step.
        estimate: what submitting will cost and take.
        refusal: why nothing may be submitted, if that is so.
    """

    prompt_set: str
    resource: str
    generations: tuple[Generation, ...]
    estimate: Estimate
    refusal: str | None = None

    @property
    def counts(self) -> Counter[Step]:
        """How many generations take each step."""
        return Counter(generation.step for generation in self.generations)


def make_plan(
    *,
    prompt_set: str,
    resource: str,
    asked: Sequence[Generation],
    known: Mapping[str, Generation],
    unit_costs: Mapping[str, UnitCost | None],
    caps: Caps,
    requests_per_minute: float,
    is_by_person: bool = True,
) -> Plan:
    """Decide about each generation; whether the set's and the run's cap allow it all, `apply_caps` decides.

    Args:
        prompt_set: the set.
        resource: the model's resource name.
        asked: what the set asks of the model.
        known: what the ledger knows about these generations, for a sensor's run with the runs in which they failed.
        unit_costs: by model slug.
        caps: the limits; of these, what one generation may cost.
        requests_per_minute: the configured rate.
        is_by_person: a person's run also tries again what failed permanently, once; it was never paid.
    """
    generations = tuple(
        _decide(generation.with_record(recorded) if recorded else generation, unit_costs, caps, by_person=is_by_person)
        for generation in asked
        for recorded in [known.get(generation.generation_id)]
    )
    estimate = _estimate([each for each in generations if each.step == "submit"], requests_per_minute)
    return Plan(
        prompt_set=prompt_set,
        resource=resource,
        generations=generations,
        estimate=estimate,
        refusal=_refusal(prompt_set, resource, estimate, unit_costs, caps),
    )


def apply_caps(plans: Sequence[Plan], *, caps: Mapping[str, Caps], spent: Mapping[str, Spent]) -> list[Plan]:
    """Plans that are all or nothing: what refuses one plan of a set refuses the set, and a run's cap the run.

    A cap is compared with what all plans it is about need together, and its refusal is one sentence for all of them.

    Args:
        plans: of one run, in the order they were made.
        caps: the limits, by prompt set.
        spent: what they have been used for, by prompt set.
    """
    of_set: defaultdict[str, list[Plan]] = defaultdict(list)
    for plan in plans:
        of_set[plan.prompt_set].append(plan)
    refusals = {
        key: next((plan.refusal for plan in found if plan.refusal), None)
        or _over_cap("set", key, found, caps[key], spent[key], needing=f"'{key}'")
        for key, found in of_set.items()
    }
    sent = [plan for plan in plans if not refusals[plan.prompt_set]]
    # every set of a run has the run's cap, and the run's spending
    set_names = ", ".join(dict.fromkeys(f"'{plan.prompt_set}'" for plan in sent))
    of_run = next((_over_cap("run", "", sent, caps[key], spent[key], needing=set_names) for key in of_set), None)
    return [
        replace(plan, refusal=plan.refusal or refusals[plan.prompt_set] or of_run)
        if any(generation.unit_cost for generation in plan.generations)
        else plan
        for plan in plans
    ]


def _over_cap(scope: Scope, name: str, plans: Sequence[Plan], caps: Caps, spent: Spent, *, needing: str) -> str | None:
    needed_usd = sum((plan.estimate.high_usd for plan in plans), Decimal(0))
    cap_usd, committed_usd, reserved_usd = caps.of(scope), spent.of(scope), spent.reserved_by(scope)
    if cap_usd is None or not needed_usd or committed_usd + needed_usd <= cap_usd:
        return None
    refused = Refused(
        scope=scope,
        name=name,
        cap_usd=cap_usd,
        spent_usd=committed_usd - reserved_usd,
        reserved_usd=reserved_usd,
        needed_usd=needed_usd,
    )
    buying = [plan for plan in plans if plan.counts["submit"]]
    count = sum(plan.counts["submit"] for plan in buying)
    resources = ", ".join(dict.fromkeys(plan.resource for plan in buying))
    what = f"{needing} ({count} generation{'s' * (count != 1)} of {resources}) needs"
    return f"Nothing was submitted. {refused.explain(what)}"


def _decide(
    generation: Generation, unit_costs: Mapping[str, UnitCost | None], caps: Caps, *, by_person: bool
) -> Generation:
    unit_cost = unit_costs.get(generation.model.slug) or _unit_cost_of_set(caps)
    unit_cost = unit_cost.capped(caps.max_unit_usd) if unit_cost else None
    following = next_step(generation, by_person=by_person)
    # with its price also where it is only looked for: if it failed free of charge, this run buys it
    return generation.with_step(following, unit_cost=unit_cost if following.may_buy else None, caps=caps)


def _unit_cost_of_set(caps: Caps) -> UnitCost | None:
    return None if caps.max_unit_usd is None else UnitCost.at_most(caps.max_unit_usd)


def _estimate(bought: Sequence[Generation], requests_per_minute: float) -> Estimate:
    costs = [generation.unit_cost for generation in bought if generation.unit_cost]
    priced = [unit_cost for unit_cost in costs if unit_cost.is_price]
    limits = [unit_cost.high for unit_cost in costs if not unit_cost.is_price]
    latencies = [unit_cost.latency_s for unit_cost in costs]
    known = [latency for latency in latencies if latency is not None]
    slowest = max(known, default=0.0) if len(known) == len(bought) else None
    return Estimate(
        low_usd=sum((unit_cost.low for unit_cost in priced), Decimal(0)),
        expected_usd=sum((unit_cost.expected for unit_cost in priced), Decimal(0)),
        high_usd=sum((unit_cost.high for unit_cost in costs), Decimal(0)),
        capped=len(limits),
        capped_usd=sum(limits, Decimal(0)),
        unpriced=len(bought) - len(costs),
        duration_s=None if slowest is None else len(bought) * 60 / requests_per_minute + slowest,
    )


def _refusal(
    prompt_set: str,
    resource: str,
    estimate: Estimate,
    unit_costs: Mapping[str, UnitCost | None],
    caps: Caps,
) -> str | None:
    """Why a generation of the model may not be bought, whatever it costs together."""
    if estimate.unpriced:
        return (
            f"Nothing was submitted: nobody knows what a generation of {resource} costs, so no cap can hold. "
            f"Give prompt set '{prompt_set}' a `max_unit_cost_usd`, the most you would pay for one."
        )
    dearest = max((unit_cost.dearest for unit_cost in unit_costs.values() if unit_cost), default=Decimal(0))
    if caps.max_unit_usd is not None and estimate.high_usd and dearest > caps.max_unit_usd:
        return (
            f"Nothing was submitted: a generation of {resource} costs up to ${dearest:.4f}, and `max_unit_cost_usd` of "
            f"prompt set '{prompt_set}' is ${caps.max_unit_usd}. Raise it, or choose a cheaper model."
        )
    return None
