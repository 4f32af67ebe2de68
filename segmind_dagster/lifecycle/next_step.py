"""What may happen to a generation next, why, and when; for plans, the runner, sensors and checks. Pure.

Two retry schedules depend on recorded times and counts alone. A run that may buy waits twice as long after each failed
run, and ends after `MOST_RUNS`. A look for paid outputs waits twice as long each time, and ends when the provider has
deleted them; `ledger.sensor_reads.loose` computes that in the database. Which moves exist is in `states`, the failure
kinds are in `failures`; whether money allows a purchase is decided in `budget`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from segmind_dagster.lifecycle.failures import PAID_KINDS, POLICIES, policy_of
from segmind_dagster.lifecycle.states import IN_PROGRESS

if TYPE_CHECKING:
    from datetime import datetime

    from segmind_dagster.lifecycle.failures import FailureKind
    from segmind_dagster.lifecycle.generation import Generation

MOST_RUNS: Final = 6
FIRST_PAUSE: Final = timedelta(minutes=5)
LONGEST_PAUSE: Final = timedelta(hours=6)
FIRST_LOOK: Final = timedelta(minutes=1)
# Segmind keeps outputs for seven days
KEPT: Final = timedelta(days=7)

# after these, another run may succeed, and the failure was free
RETRYABLE: Final = frozenset(
    kind
    for kind, policy in POLICIES.items()
    if not (policy.is_permanent or policy.stops_run or kind in {*PAID_KINDS, "unknown_outcome"})
)
# these concern the account, not the generation: their runs are not counted
UNCOUNTED: Final = frozenset(kind for kind, policy in POLICIES.items() if policy.stops_run)


def pause_after(runs: int, *, first: timedelta = FIRST_PAUSE) -> timedelta:
    """The pause after that many runs: `first`, then twice as long each time, at most `LONGEST_PAUSE`.

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
    """Whether a run sends another attempt for a generation after that many failures of a kind.

    Args:
        kind: of the latest failure.
        failures: attempts of this run that failed so, the latest included.
    """
    return failures < POLICIES[kind].attempts


Step = Literal["submit", "reuse", "collect", "look_up", "wait", "leave"]
"""Buy; reuse what is stored; poll and fetch; look up in the history; wait for another run; leave alone."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """The next step, and why.

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


def next_step(recorded: Generation, *, by_person: bool) -> NextStep:  # noqa: PLR0911  one line a state
    """Decide the next step of a generation.

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


def _after_failure(recorded: Generation, *, by_person: bool) -> NextStep:
    kind = recorded.failure_kind or "no kind recorded"
    policy = policy_of(recorded.failure_kind)
    if policy.is_paid:
        return NextStep("collect", f"paid for, but {kind}: fetched again, not bought again", may_buy=False)
    if not by_person and (policy.is_permanent or recorded.failed_runs >= MOST_RUNS):
        return NextStep("leave", f"{kind}: {policy.advice}", may_buy=False)
    if policy.is_unclear and recorded.was_accepted:
        # if its job failed free of charge, this run buys it
        return NextStep("collect", f"may have been paid for ({kind}): asked for first, not bought again")
    if policy.is_unclear:
        return NextStep("submit", f"never accepted as far as is recorded ({kind})", is_retry=True)
    return NextStep("submit", f"failed earlier ({kind}), free of charge", is_retry=True)
