"""What Segmind's models usually cost and how long they usually take.

`catalogue.csv`, bundled on 2026-11-22, is a snapshot of Segmind's own model directory: averages
over what other people asked for, so an estimate, never a price. What the `models` resource has read since
(`runner.prices`) and what the account has really paid (`planning.estimate`) take precedence.
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


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """What one model usually costs and how long it takes.

    Args:
        slug: the model.
        cost_usd: mean cost of one request; None when unknown, which is not the same as free.
        latency_s: mean time from submission to result; None when unknown.
    """

    slug: str
    cost_usd: Decimal | None
    latency_s: float | None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Costs and latencies by model slug."""

    entries: Mapping[str, CatalogueEntry]

    def get(self, slug: str) -> CatalogueEntry:
        """The entry of a model; one with nothing known when the model is not listed."""
        return self.entries.get(slug, CatalogueEntry(slug, None, None))

    def updated(self, entries: Iterable[CatalogueEntry]) -> Catalogue:
        """The same, with what these entries know in place of what was known before."""
        better = {}
        for entry in entries:
            before = self.get(entry.slug)
            better[entry.slug] = CatalogueEntry(
                entry.slug,
                cost_usd=before.cost_usd if entry.cost_usd is None else entry.cost_usd,
                latency_s=before.latency_s if entry.latency_s is None else entry.latency_s,
            )
        return Catalogue(MappingProxyType({**self.entries, **better}))


@cache
def bundled_catalogue() -> Catalogue:
    """The snapshot that ships with the package."""
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
