"""Stops a run whose generations cost far more than expected, and asks its user.

The cost is recorded by then. A later run compares with it, so that materializing again confirms the price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segmind_dagster.lifecycle.plausibility import is_implausible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from segmind_dagster.ledger.costs import ReportedCost
    from segmind_dagster.lifecycle.generation import Attempt, Generation
    from segmind_dagster.runner.admission import Admission


class OddPrices:
    """Checks what each generation cost.

    Args:
        admission: ends submitting.
        highest_usd: the most that a generation of each model slug has cost before this run.
    """

    def __init__(self, admission: Admission, highest_usd: Mapping[str, Decimal]) -> None:
        self._admission = admission
        self._highest_usd = highest_usd

    def look(self, generation: Generation, attempt: Attempt) -> None:
        """Stop the run if this one cost implausibly much."""
        self._ask(
            attempt.accounting.cost_usd, generation.estimate_usd,
            slug=generation.model.slug, prompt_set=generation.prompt_set, request_id=attempt.request_id,
        )  # fmt: skip

    def look_at_reported(self, reported: Iterable[ReportedCost]) -> None:
        """The same for costs from the history."""
        for each in reported:
            self._ask(
                each.cost_usd, each.estimate_usd,
                slug=each.model_slug, prompt_set=each.prompt_set, request_id=each.request_id,
            )  # fmt: skip

    def _ask(
        self, cost_usd: Decimal | None, estimate_usd: Decimal | None, *, slug: str, prompt_set: str, request_id: str
    ) -> None:
        known = [usd for usd in (estimate_usd, self._highest_usd.get(slug)) if usd is not None]
        expected_usd = max(known, default=None)
        if cost_usd is None or expected_usd is None or not is_implausible(cost_usd, expected_usd):
            return
        self._admission.stop(
            "over_budget",
            f"Is this the price? Request {request_id} of {slug} cost ${cost_usd:.4f}, and at most about "
            f"${expected_usd:.4f} was expected: {cost_usd / expected_usd:.0f} times as much. It is booked as reported, "
            f"and nothing more is submitted. If it is right, materialize '{prompt_set}' again: later runs count with "
            "it, within the caps. If not, ask Segmind about this request, and give the prompt set a "
            "`max_unit_cost_usd` meanwhile.",
        )
