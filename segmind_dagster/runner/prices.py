"""What generations are likely to cost: the catalogue as this ledger knows it, and earlier costs.

What recently reported prices mean for the caps is decided in `lifecycle.budget`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segmind_dagster.ledger import reads
from segmind_dagster.planning import price_models
from segmind_dagster.registry import CatalogueEntry, bundled_catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.lifecycle.budget import UnitCost
    from segmind_dagster.registry import Catalogue


def current_catalogue(ledger: Ledger, slugs: Sequence[str]) -> Catalogue:
    """The latest published costs and latencies of these models."""
    listed = ledger.read(reads.model_prices, slugs)
    return bundled_catalogue().updated(
        CatalogueEntry(slug, cost_usd, None if latency_ms is None else latency_ms / 1000)
        for slug, (cost_usd, latency_ms) in listed.items()
    )


def unit_costs(ledger: Ledger, slugs: Sequence[str]) -> dict[str, UnitCost | None]:
    """What one generation of each of these models is likely to cost; None when unknown."""
    return price_models(slugs, catalogue=current_catalogue(ledger, slugs), observed=ledger.read(reads.observed, slugs))
