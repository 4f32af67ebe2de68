"""What several plans cost together, and in which words that is said; how each is priced is `estimate`'s business.

What has no known price is never part of an expected figure: it is said apart, with the most it may cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.planning.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """The estimates of several plans, added up.

    Args:
        priced: generations to buy whose price is known.
        low_usd: lowest likely, of these.
        expected_usd: mean, of these.
        high_usd: highest likely, of these.
        capped: generations to buy of unknown price, for each of which the set gives a `max_unit_cost_usd`.
        capped_usd: the most these may cost.
        capped_models: the models that make them.
        unpriced: generations of unknown price without such a limit; they are not bought.
        unpriced_models: the models that would make them.
        shared: how often a generation is counted again, because another set or plan asks for it too; it is bought once.
        shared_usd: the expected cost of these.
    """

    priced: int
    low_usd: Decimal
    expected_usd: Decimal
    high_usd: Decimal
    capped: int
    capped_usd: Decimal
    capped_models: tuple[str, ...]
    unpriced: int
    unpriced_models: tuple[str, ...]
    shared: int
    shared_usd: Decimal

    @classmethod
    def of(cls, plans: Sequence[Plan]) -> Total:
        """Add plans up, also refused ones: what they ask for is what is to be decided on."""
        estimates = [plan.estimate for plan in plans]
        capped, unpriced = (sum(getattr(each, name) for each in estimates) for name in ("capped", "unpriced"))
        capped_usd = sum((each.capped_usd for each in estimates), Decimal(0))
        shared = _asked_for_before(plans)
        return cls(
            priced=sum(plan.counts["submit"] for plan in plans) - capped - unpriced,
            low_usd=sum((each.low_usd for each in estimates), Decimal(0)),
            expected_usd=sum((each.expected_usd for each in estimates), Decimal(0)),
            high_usd=sum((each.high_usd for each in estimates), Decimal(0)) - capped_usd,
            capped=capped,
            capped_usd=capped_usd,
            capped_models=_models([plan for plan in plans if plan.estimate.capped]),
            unpriced=unpriced,
            unpriced_models=_models([plan for plan in plans if plan.estimate.unpriced]),
            shared=len(shared),
            shared_usd=sum(
                (each.unit_cost.expected for each in shared if each.unit_cost and each.unit_cost.is_price), Decimal(0)
            ),
        )

    @property
    def is_known(self) -> bool:
        """Whether the expected figure says anything: not when all there is to buy is of unknown price."""
        return bool(self.priced) or not (self.capped or self.unpriced)

    def sentences(self) -> list[str]:
        """The whole in words, what is known first."""
        said = []
        if self.is_known:
            said.append(f"about ${self.expected_usd:.4f}, between ${self.low_usd:.4f} and ${self.high_usd:.4f}.")
        if self.capped:
            more = " more" if said else ""
            said.append(
                f"at most ${self.capped_usd:.4f}{more} for {_generations(self.capped)} of unknown price "
                f"({', '.join(self.capped_models)}), going by `max_unit_cost_usd`."
            )
        if self.unpriced:
            said.append(
                f"nobody knows how much for {_generations(self.unpriced)} of unknown price "
                f"({', '.join(self.unpriced_models)}); without a `max_unit_cost_usd` none of it is bought."
            )
        sentences = [f"{'Besides' if number else 'Together'}: {sentence}" for number, sentence in enumerate(said)]
        if self.shared:
            sentences.append(
                f"It holds {_generations(self.shared)} (about ${self.shared_usd:.4f}) more than will be bought: "
                "several sets ask for the same, and one pays."
            )
        return sentences


def _asked_for_before(plans: Sequence[Plan]) -> list[Generation]:
    """What is to be bought for one plan, and for an earlier one as well."""
    seen: set[str] = set()
    again = []
    for generation in (each for plan in plans for each in plan.generations if each.step == "submit"):
        if generation.generation_id in seen:
            again.append(generation)
        seen.add(generation.generation_id)
    return again


def _models(plans: Sequence[Plan]) -> tuple[str, ...]:
    return tuple(sorted({plan.resource for plan in plans}))


def _generations(count: int) -> str:
    return f"{count} generation{'s' * (count != 1)}"
