"""What may happen to a generation next, why, and when: plans, the runner, sensors and checks all ask here. Pure.

Two schedules follow from recorded times and counts alone: a run that may buy waits twice as long after each run that
failed, and ends after `MOST_RUNS`; a look for what was paid for waits as long again as it has waited, and ends when the
provider no longer has it: that one is worked out where the rows are, in `ledger.sensor_reads.loose`. Which moves exist
is in `states`, which kinds of failure are which in `failures`; whether money allows it is `budget`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, Protocol

from segmind_dagster.lifecycle.failures import PAID_KINDS, POLICIES, policy_of
from segmind_dagster.lifecycle.states import IN_PROGRESS

if TYPE_CHECKING:
    from datetime import datetime

    from segmind_dagster.lifecycle.failures import FailureKind
    from segmind_dagster.lifecycle.states import State

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


def may_retry(kind: FailureKind, failures: int) -> bool:
    """Whether a run that has seen so many failures of a kind sends another attempt for the same generation.

    Args:
        kind: of the latest failure.
        failures: attempts of this run that failed so, the latest included.
    """
    return failures < POLICIES[kind].attempts


Step = Literal["submit", "reuse", "collect", "look_up", "wait", "leave"]
"""Buy it; nothing, it is there; poll and fetch; find out its fate in the history; another run has it; nothing."""


class Recorded(Protocol):
    """What is recorded of a generation, as far as its next step depends on it; `generation.Generation` has it all."""

    @property
    def state(self) -> State | None:
        """Its state; None when nothing is recorded."""

    @property
    def is_owner_alive(self) -> bool:
        """Whether a live run owns it."""

    @property
    def failure_kind(self) -> str | None:
        """Why it failed, or why its last attempt did."""

    @property
    def was_accepted(self) -> bool:
        """Whether its last attempt has a request id."""

    @property
    def failed_runs(self) -> int:
        """Runs in which it failed; those that the account stopped do not count."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """What may happen, and why.

    Args:
        step: what.
        reason: why, for people.
        is_retry: whether it failed earlier, and has to leave that state first.
        may_buy: whether it may be bought, so that its price counts.
    """

    step: Step
    reason: str
    is_retry: bool = False
    may_buy: bool = True


_NOT_YET = NextStep("submit", "not generated yet")


def next_step(recorded: Recorded, *, by_person: bool) -> NextStep:  # noqa: PLR0911  one line a state
    """What may happen to a generation.

    Args:
        recorded: what is recorded of it.
        by_person: whether a person asked for it, rather than a sensor: then what failed unpaid is tried once more.
    """
    if recorded.state in IN_PROGRESS and recorded.is_owner_alive:
        return NextStep("wait", "another run is at it")
    match recorded.state:
        case "succeeded":
            return NextStep("reuse", "already paid for and stored", may_buy=False)
        case "submitted":
            return NextStep("collect", "submitted earlier; its result is fetched, not bought again")
        case "unknown" | "submitting":
            return NextStep("look_up", "the outcome of its submission was not seen")
        case None:
            return _NOT_YET
        case "planned":
            if not by_person and recorded.failed_runs >= MOST_RUNS:
                return NextStep("leave", f"it has failed in {recorded.failed_runs} runs", may_buy=False)
            return _NOT_YET
        case "failed":
            return _after_failure(recorded, by_person=by_person)


def _after_failure(recorded: Recorded, *, by_person: bool) -> NextStep:
    kind = recorded.failure_kind or "no kind recorded"
    policy = policy_of(recorded.failure_kind)
    if policy.is_paid:
        return NextStep("collect", f"paid for, but {kind}: fetched again, not bought again", may_buy=False)
    if not by_person and (policy.is_permanent or recorded.failed_runs >= MOST_RUNS):
        return NextStep("leave", f"{kind}: {policy.advice}", may_buy=False)
    if policy.is_unclear and recorded.was_accepted:
        # if it failed free of charge, this run buys it
        return NextStep("collect", f"may have been paid for ({kind}): asked for first, not bought again")
    if policy.is_unclear:
        return NextStep("submit", f"never accepted as far as is recorded ({kind})", is_retry=True)
    return NextStep("submit", f"failed earlier ({kind}), free of charge", is_retry=True)
