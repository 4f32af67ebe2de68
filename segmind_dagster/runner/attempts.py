"""What one run knows of a generation's attempts besides the record: data from answers, failures so far.

Values only. The attempt itself is `lifecycle.generation.Attempt`, and what may follow a failure is in
`lifecycle.next_step`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from segmind_dagster.lifecycle.next_step import may_retry
from segmind_dagster.lifecycle.parsing import read_usd

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from segmind_dagster.lifecycle.failures import FailureKind
    from segmind_dagster.lifecycle.generation import Accounting, Attempt
    from segmind_dagster.lifecycle.matching import HistoryRow

_ROUND_TRIP_S = 0.02
# longer than Segmind keeps the record of a request (docs:async), and than a wall clock jumps between two runs
_RECORD_KEPT = timedelta(hours=1)
_CLOCK_JUMPS = timedelta(hours=2)


@dataclass(slots=True)
class Tries:
    """Failed attempts of this run for one generation, by their kind."""

    by_kind: Counter[FailureKind] = field(default_factory=Counter)

    def may_again(self, kind: FailureKind) -> bool:
        """Count a failure; return whether this run may send another attempt."""
        self.by_kind[kind] += 1
        return may_retry(kind, self.by_kind[kind])


def may_be_running(accepted_at: datetime | None, now: datetime) -> bool:
    """Whether a request unknown to Segmind may still be in progress: its record would be kept longer than that."""
    return accepted_at is not None and now - accepted_at < _RECORD_KEPT + _CLOCK_JUMPS


def took_s(accounting: Accounting, noticed_after_s: float) -> float:
    """How long a job took: as the provider reports, else a little less than until we noticed.

    We notice only at a poll, so learning from that alone could only make the latency grow.
    """
    if accounting.inference_ms is None:
        return noticed_after_s * 0.95
    return min((accounting.inference_ms + (accounting.queue_ms or 0)) / 1000 + _ROUND_TRIP_S, noticed_after_s)


def with_history(attempt: Attempt, row: HistoryRow | None) -> Attempt:
    """The attempt with the cost from the history, where only that still has it."""
    return attempt if row is None else attempt.with_cost(row.cost_usd, "history")


def with_sidecar(attempt: Attempt, sidecar: Mapping[str, Any]) -> Attempt:
    """The attempt with the cost from the sidecar of its output, where only that still has it."""
    if not isinstance(sidecar.get("cost_usd"), str):
        return attempt
    return attempt.with_cost(read_usd(sidecar["cost_usd"]), str(sidecar.get("cost_source", "reported")))
