"""What generations cost: the catalogue as this ledger knows it, and what a run sees its generations really cost."""

from __future__ import annotations

from decimal import Decimal
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from segmind_dagster.ledger import reads
from segmind_dagster.planning import price_models
from segmind_dagster.registry import CatalogueEntry, bundled_catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

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
_NOTHING = (0, _FREE)


class SeenPrices:
    """What the generations of a run really cost, so that a price that has risen is not paid beyond a cap.

    What is sent before a price is seen may cost several times what is put aside for it: as long as that is so, a cap
    has to leave room for it. Asked from the ledger's thread when a claim is decided; see `RoomFor`.
    """

    def __init__(self) -> None:
        self._highest_usd: dict[str, Decimal] = {}
        # how many are on their way, and what is put aside for them together
        self._out: dict[str, tuple[int, Decimal]] = {}
        self._turn = Lock()

    def learn(self, slug: str, cost_usd: Decimal | None) -> None:
        """Take note of what a generation of a model has cost; None when nobody reports that."""
        self._highest_usd[slug] = max(cost_usd or _FREE, self._highest_usd.get(slug, _FREE))

    def reserve_usd(self, slug: str, planned_usd: Decimal) -> Decimal:
        """What to put aside for one generation: as planned, or as much as one has cost in this run."""
        return max(planned_usd, self._highest_usd.get(slug, _FREE))

    def room(self, slug: str) -> RoomFor:
        """What a claim for a generation of a model has to leave free."""
        return RoomFor(self, slug)

    def margin_usd(self, slug: str, needed_usd: Decimal) -> Decimal:
        """What what is on its way may cost beyond what is put aside, with one more of this model."""
        with self._turn:
            margin = sum((self._short_usd(*each) for each in self._out.items()), _FREE)
            is_on_its_way = self._out.get(slug, _NOTHING)[0] > 0
        # a model's first one goes as planned: somebody has to find out
        may_cost_more = is_on_its_way and slug not in self._highest_usd
        return margin + needed_usd * (_CAUTION - 1) if may_cost_more else margin

    def _short_usd(self, slug: str, out: tuple[int, Decimal]) -> Decimal:
        count, reserved_usd = out
        highest_usd = self._highest_usd.get(slug)
        if highest_usd is None:
            return reserved_usd * (_CAUTION - 1)
        return max(highest_usd * count - reserved_usd, _FREE)

    def take(self, slug: str, reserved_usd: Decimal) -> None:
        """A generation goes on its way."""
        self._add(slug, 1, reserved_usd)

    def give_back(self, slug: str, reserved_usd: Decimal) -> None:
        """It has ended."""
        self._add(slug, -1, -reserved_usd)

    def _add(self, slug: str, count: int, usd: Decimal) -> None:
        with self._turn:
            before = self._out.get(slug, _NOTHING)
            self._out[slug] = before[0] + count, before[1] + usd


class RoomFor(NamedTuple):
    """The room that `ledger.moves.claim` has to leave in every cap; see `SeenPrices`."""

    prices: SeenPrices
    slug: str

    def margin_usd(self, needed_usd: Decimal) -> Decimal:
        """Beyond what is put aside."""
        return self.prices.margin_usd(self.slug, needed_usd)

    def take(self, reserved_usd: Decimal) -> None:
        """The claim is granted."""
        self.prices.take(self.slug, reserved_usd)
