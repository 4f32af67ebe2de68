"""The catalogue as this ledger knows it: the bundled one, brought up to date by what the models list said last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segmind_dagster.ledger import reads
from segmind_dagster.registry import CatalogueEntry, bundled_catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.registry import Catalogue


def current_catalogue(ledger: Ledger, slugs: Sequence[str]) -> Catalogue:
    """Costs and latencies of these models, the latest that anybody published."""
    listed = ledger.read(reads.model_prices, slugs)
    return bundled_catalogue().updated(
        CatalogueEntry(slug, cost_usd, None if latency_ms is None else latency_ms / 1000)
        for slug, (cost_usd, latency_ms) in listed.items()
    )
