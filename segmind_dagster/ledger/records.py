"""The values that go into the ledger and come out of it; frozen, with units in their names.

How they are stored is in `schema`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from segmind_dagster.lifecycle.budget import Scope
    from segmind_dagster.lifecycle.matching import Submission


ABSENT_BY_WORD: Final = "A person said that this submission never arrived."
"""The error of an attempt that a person declared absent, instead of the reason of an inference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnaccountedAttempt:
    """A POST that counts as never accepted without proof.

    Args:
        generation_id: the generation.
        attempt: number of the attempt.
        is_inferred: whether the history's silence says so, rather than an error answer.
        is_unpaid: whether its generation still has to be bought, as far as the ledger knows.
        ended_at: when it was recorded as never accepted.
        is_declared: whether a person declared it.
        submission: what was sent, local files left out.
    """

    generation_id: str
    attempt: int
    is_inferred: bool
    is_unpaid: bool
    ended_at: datetime
    is_declared: bool
    submission: Submission


class InferredAbsent(NamedTuple):
    """Submissions that were inferred never to have arrived.

    Args:
        attempts: how many.
        reserved_usd: what was reserved for them, in USD.
    """

    attempts: int
    reserved_usd: Decimal


class OwnedRequest(NamedTuple):
    """A request that the ledger knows.

    Args:
        model_slug: what was called.
        sent_at: when its intent was recorded.
    """

    model_slug: str
    sent_at: datetime


class Charge(NamedTuple):
    """What an attempt with a known outcome cost.

    Args:
        usd: charged, or estimated.
        source: who said so.
        anew_usd: what that adds to the earlier charges; less than zero when an estimate was too high.
    """

    usd: Decimal
    source: str
    anew_usd: Decimal

    @property
    def is_estimated(self) -> bool:
        """Whether what it adds is not reported."""
        return self.source == "estimated" and self.anew_usd != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Money committed so far: charges plus open reservations, in USD.

    Args:
        run_usd: by one Dagster run.
        day_usd: on one UTC day.
        set_usd: by one prompt set, ever.
        reserved: what of that is not charged yet, by scope.
    """

    run_usd: Decimal
    day_usd: Decimal
    set_usd: Decimal
    reserved: Mapping[Scope, Decimal] = field(default_factory=dict)

    def of(self, scope: Scope) -> Decimal:
        """Committed by a scope."""
        return {"set": self.set_usd, "run": self.run_usd, "day": self.day_usd}[scope]

    def reserved_by(self, scope: Scope) -> Decimal:
        """The part that is not charged yet."""
        return self.reserved.get(scope, Decimal(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDeliveries:
    """What a model has delivered for its charges, by the ledger.

    Args:
        has_delivered: whether an output of it was ever stored.
        bad: generation and attempt of every output that was paid for and cannot be used.
        bad_lately: how many of these were bought after the last good output.
        bad_lately_usd: what those were charged, as far as that is known.
    """

    has_delivered: bool
    bad: frozenset[tuple[str, int]]
    bad_lately: int
    bad_lately_usd: Decimal
