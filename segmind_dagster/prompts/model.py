"""What this package hands on: one prompt set, with its generations.

A plain frozen dataclass that knows nothing of files, YAML or budgets. What a generation is allowed to cost is decided
in `planning`; whether it was already paid for, in the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.registry import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """One prompt file, validated and expanded.

    Args:
        key: stem of the file; the partition key.
        path: the file.
        digest: SHA-256, hex, over the file's bytes and the digests of the local images it refers to.
        description: for people.
        models: every model aimed at, in registry order.
        budget_usd: cap on the set's lifetime spend; None for no cap of its own.
        max_unit_cost_usd: most that one generation may cost, for models without a known price.
        auto_run: whether a change of the file starts a run by itself.
        generations: every generation of every model, in file order.
    """

    key: str
    path: Path
    digest: str
    description: str | None
    models: tuple[Model, ...]
    budget_usd: Decimal | None
    max_unit_cost_usd: Decimal | None
    auto_run: bool
    generations: tuple[Generation, ...]

    def generations_of(self, resource: str) -> tuple[Generation, ...]:
        """The generations of one model, in file order; empty when the set does not aim at it."""
        return tuple(generation for generation in self.generations if generation.model.resource == resource)
