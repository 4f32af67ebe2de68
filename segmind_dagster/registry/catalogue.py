"""What Segmind's models usually cost and how long they usually take.

`catalogue.csv`, bundled on `CATALOGUE_DATE`, is a snapshot of Segmind's own model directory: averages
over what other people asked for, so an estimate, never a price. What the account has really paid (the
ledger) takes precedence, through `Catalogue.with_entries`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CATALOGUE_DATE = "2026-11-22"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """What one model usually costs and how long it takes.

    Args:
        slug: the model.
        cost_usd: mean cost of one request; None when unknown, which is not the same as free.
        latency_s: mean time from submission to result; None when unknown.
        cost_source: where the cost comes from: `catalogue` or `ledger`.
    """

    slug: str
    cost_usd: Decimal | None
    latency_s: float | None
    cost_source: str = "catalogue"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Costs and latencies by model slug."""

    entries: Mapping[str, CatalogueEntry]

    def get(self, slug: str) -> CatalogueEntry:
        """The entry of a model; one with nothing known when the model is not listed."""
        return self.entries.get(slug, CatalogueEntry(slug, None, None))

    def with_entries(self, newer: Iterable[CatalogueEntry]) -> Catalogue:
        """A copy in which newer entries replace older ones, fact by fact: an unknown replaces nothing."""
        merged = dict(self.entries)
        for entry in newer:
            older = merged.get(entry.slug, CatalogueEntry(entry.slug, None, None))
            is_priced = entry.cost_usd is not None
            merged[entry.slug] = CatalogueEntry(
                slug=entry.slug,
                cost_usd=entry.cost_usd if is_priced else older.cost_usd,
                latency_s=entry.latency_s if entry.latency_s is not None else older.latency_s,
                cost_source=entry.cost_source if is_priced else older.cost_source,
            )
        return Catalogue(MappingProxyType(merged))


@cache
def bundled_catalogue() -> Catalogue:
    """The snapshot that ships with the package, dated `CATALOGUE_DATE`."""
    text = resources.files(__package__).joinpath("catalogue.csv").read_text(encoding="utf-8")
    entries = {
        row["slug"]: CatalogueEntry(
            slug=row["slug"],
            cost_usd=Decimal(row["avg_cost_usd"]) if row["avg_cost_usd"] else None,
            latency_s=float(row["avg_latency_s"]) if row["avg_latency_s"] else None,
        )
        for row in csv.DictReader(text.splitlines())
    }
    return Catalogue(MappingProxyType(entries))
