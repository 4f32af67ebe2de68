"""What a generation is likely to cost: from what this account really paid, else from the catalogue.

An unknown price stays unknown; it is never counted as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING

from segmind_dagster.lifecycle.budget import UnitCost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from segmind_dagster.registry import Catalogue, CatalogueEntry

# below this many observations one unusual request would decide the range
_ENOUGH_OBSERVATIONS = 5
# the catalogue gives a mean over everybody's requests; ours may be larger
_CATALOGUE_RANGE = (Decimal("0.5"), Decimal("1.5"))
_MICRO = Decimal("0.000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a plan will cost and take.

    Args:
        low_usd: lowest likely, of the generations whose price is known.
        expected_usd: mean, of the same.
        high_usd: the most that all of them cost; reserved before the first POST.
        capped: generations of unknown price, with a limit of the set for each.
        capped_usd: of `high_usd`, what is reserved for these.
        unpriced: generations of unknown price, without a limit.
        duration_s: time at the configured rate; None when a latency is unknown.
    """

    low_usd: Decimal = Decimal(0)
    expected_usd: Decimal = Decimal(0)
    high_usd: Decimal = Decimal(0)
    capped: int = 0
    capped_usd: Decimal = Decimal(0)
    unpriced: int = 0
    duration_s: float | None = 0.0


def price_models(
    slugs: Iterable[str],
    *,
    catalogue: Catalogue,
    observed: Mapping[str, tuple[Sequence[Decimal], Sequence[int]]],
) -> dict[str, UnitCost | None]:
    """The unit cost of each model; None when unknown.

    Args:
        slugs: the models.
        catalogue: the published averages.
        observed: recent reported costs in USD and latencies in ms by model, from the ledger.
    """
    return {slug: _price(catalogue.get(slug), *observed.get(slug, ((), ()))) for slug in slugs}


def _price(entry: CatalogueEntry, costs: Sequence[Decimal], latencies_ms: Sequence[int]) -> UnitCost | None:
    latency_s = median(latencies_ms) / 1000 if latencies_ms else entry.latency_s
    if len(costs) >= _ENOUGH_OBSERVATIONS or (costs and entry.cost_usd is None):
        mean = (sum(costs, Decimal(0)) / len(costs)).quantize(_MICRO)
        return UnitCost(low=min(costs), expected=mean, high=max(costs), latency_s=latency_s, source="ledger")
    if entry.cost_usd is None:
        return None
    low, high = (entry.cost_usd * factor for factor in _CATALOGUE_RANGE)
    return UnitCost(low=low, expected=entry.cost_usd, high=high, latency_s=latency_s, source="catalogue")
