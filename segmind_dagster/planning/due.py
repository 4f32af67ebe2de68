"""When something that went wrong is due again, across runs, from recorded times and counts alone. Pure.

Two paces: a run that may buy waits twice as long after each run that failed, and ends after `MOST_RUNS`; a look
for what was paid for waits as long again as it has waited, and ends when the provider no longer has it: that one is
worked out where the rows are, in `ledger.due.loose`. Which kinds of failure are which: `lifecycle.failures`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from segmind_dagster.lifecycle.failures import PAID_KINDS, POLICIES

if TYPE_CHECKING:
    from datetime import datetime

MOST_RUNS: Final = 6
FIRST_PAUSE: Final = timedelta(minutes=5)
LONGEST_PAUSE: Final = timedelta(hours=6)
FIRST_LOOK: Final = timedelta(minutes=1)
# Segmind keeps outputs for seven days
KEPT: Final = timedelta(days=7)

# after these, another run may succeed free of charge
RETRYABLE: Final = frozenset(
    kind
    for kind, policy in POLICIES.items()
    if not (policy.is_permanent or policy.stops_run or kind in {*PAID_KINDS, "unknown_outcome"})
)
# these are about the account and say nothing against a generation: their runs are not counted
UNCOUNTED: Final = frozenset(kind for kind, policy in POLICIES.items() if policy.stops_run)


def pause_after(runs: int, *, first: timedelta = FIRST_PAUSE) -> timedelta:
    """How long to wait after so many runs: `first`, then twice as long each time, at most `LONGEST_PAUSE`.

    Args:
        runs: runs that ended without what was wanted; none counts as one.
        first: the pause after the first one.
    """
    doublings = min(max(runs, 1) - 1, 20)
    return min(first * (1 << doublings), max(first, LONGEST_PAUSE))


def next_run(runs: int, last_at: datetime, *, first: timedelta = FIRST_PAUSE) -> datetime | None:
    """When another run may try; None when enough have.

    Args:
        runs: runs that have tried and failed.
        last_at: when the last one did.
        first: the pause after the first one.
    """
    return None if runs >= MOST_RUNS else last_at + pause_after(runs, first=first)
