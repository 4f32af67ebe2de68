"""An accepted submission on its way to being stored, and what is known of its cost and times. Values only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from segmind_dagster.gateway import wire
from segmind_dagster.lifecycle.parsing import read_usd

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path
    from typing import Any

    from segmind_dagster.gateway.fetching import Fetched
    from segmind_dagster.ledger import Claim
    from segmind_dagster.lifecycle.matching import HistoryRow

_ROUND_TRIP_S = 0.02
# how long Segmind keeps the record of a request (docs:async)
_RECORD_KEPT = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Bytes that were paid for and are no output.

    Args:
        path: the local file that they are in.
        reason: why they are refused.
        is_cut: whether there were more of them than are accepted.
        is_only_copy: whether they came with the answer to a POST (v1), so that nobody can fetch them again.
    """

    path: Path
    reason: str
    is_cut: bool = False
    is_only_copy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An accepted submission on its way to being stored.

    Args:
        claim: the right to record what becomes of it.
        request_id: the provider's id.
        began: our monotonic clock when it was sent; its latency counts from here.
        accepted: the same when its acceptance was known; looks at it count from here.
        accepted_at: when that was, on the ledger's clock; None when nobody knows.
        accounting: what the provider has said of its cost and times so far.
        fetched: the output, when it came along with the answer (v1).
        text: a text model's answer.
        unread: what the result says in place of the address of a file.
        refused: what came along with the answer and is no output (v1).
        cost_source: who reported the cost.
        is_watched: whether this run saw it from its POST on, so that its latency is known.
    """

    claim: Claim
    request_id: str
    began: float
    accepted: float
    accepted_at: datetime | None = None
    accounting: wire.Accounting = wire.NOT_REPORTED
    fetched: Fetched | None = None
    text: str | None = None
    unread: str | None = None
    refused: Refused | None = None
    cost_source: str = "reported"
    is_watched: bool = True


def may_be_running(accepted_at: datetime | None, now: datetime) -> bool:
    """Whether a request that Segmind does not know may still be under way: its record is kept longer than that."""
    return accepted_at is not None and now - accepted_at < _RECORD_KEPT


def took_s(accounting: wire.Accounting, noticed_after_s: float) -> float:
    """How long a job took: as the provider says, else a little less than when we noticed.

    What we notice is never earlier than our own look, so learning from it alone could only grow.
    """
    if accounting.inference_ms is None:
        return noticed_after_s * 0.95
    return min((accounting.inference_ms + (accounting.queue_ms or 0)) / 1000 + _ROUND_TRIP_S, noticed_after_s)


def with_history(job: Job, row: HistoryRow | None) -> Job:
    """The job with the cost that only the history still tells."""
    if row is None or row.cost_usd is None or job.accounting.cost_usd is not None:
        return job
    return replace(job, accounting=replace(job.accounting, cost_usd=row.cost_usd), cost_source="history")


def with_facts(job: Job, facts: Mapping[str, Any]) -> Job:
    """The job with the cost that only the facts beside its output still tell."""
    if job.accounting.cost_usd is not None or not isinstance(facts.get("cost_usd"), str):
        return job
    accounting = replace(job.accounting, cost_usd=read_usd(facts["cost_usd"]))
    return replace(job, accounting=accounting, cost_source=str(facts.get("cost_source", "reported")))
