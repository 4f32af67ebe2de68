"""What generations cost: the catalogue as this ledger knows it, and what a run sees its generations really cost."""

from __future__ import annotations

from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

from segmind_dagster.ledger import reads
from segmind_dagster.planning import price_models
from segmind_dagster.registry import CatalogueEntry, bundled_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.planning import UnitCost
    from segmind_dagster.registry import Catalogue


def current_catalogue(ledger: Ledger, slugs: Sequence[str]) -> Catalogue:
    """Costs and latencies of these models, the latest that anybody published."""
    listed = ledger.read(reads.model_prices, slugs)
    return bundled_catalogue().updated(
        CatalogueEntry(slug, cost_usd, None if latency_ms is None else latency_ms / 1000)
        for slug, (cost_usd, latency_ms) in listed.items()
    )


def unit_costs(ledger: Ledger, slugs: Sequence[str]) -> dict[str, UnitCost | None]:
    """What one generation of each of these models is likely to cost; None where nobody knows."""
    return price_models(slugs, catalogue=current_catalogue(ledger, slugs), observed=ledger.read(reads.observed, slugs))


# a price may have risen since it was seen last: until this run sees it, room is kept for several times as much
_CAUTION = 4
_FREE = Decimal(0)


class SeenPrices:
    """What the generations of a run really cost, so that a price that has risen is not paid beyond a cap."""

    def __init__(self) -> None:
        self._highest_usd: dict[str, Decimal] = {}
        self._scouting: set[str] = set()

    def learn(self, slug: str, cost_usd: Decimal | None) -> None:
        """Take note of what a generation of a model has cost; None when nobody reports that."""
        self._highest_usd[slug] = max(cost_usd or _FREE, self._highest_usd.get(slug, _FREE))

    def are_known(self, slug: str) -> bool:
        """Whether this run has seen what the model costs."""
        return slug in self._highest_usd

    @contextmanager
    def reserving(self, slug: str, planned_usd: Decimal) -> Iterator[Decimal]:
        """What to put aside for one generation: as planned for a model's first one, more while its price is not seen.

        Args:
            slug: the model.
            planned_usd: the most that the plan expects.
        """
        if slug in self._highest_usd:
            yield max(planned_usd, self._highest_usd[slug])
        elif slug in self._scouting:
            yield planned_usd * _CAUTION
        else:
            self._scouting.add(slug)
            try:
                yield planned_usd
            finally:
                self._scouting.discard(slug)
