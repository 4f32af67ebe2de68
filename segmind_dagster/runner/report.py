"""What a run reports: how each generation ended, its progress, its result. Values only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from segmind_dagster.runner.outstanding import NOTHING

if TYPE_CHECKING:
    from segmind_dagster.lifecycle.failures import FailureKind
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.runner.outstanding import Outstanding

Ending = Literal["succeeded", "reused", "failed", "unknown", "running", "held_back", "left"]
"""How a run left a generation: bought; there already; failed; fate not known; still at the provider; not sent
because the run stopped submitting; left alone because only a person can help."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How one generation ended in this run.

    Args:
        ending: how.
        failure_kind: why it failed, if so.
        error: the same for people.
        cost_usd: charged in this run; less than zero where an earlier estimate was too high.
        is_estimated: whether that cost is not reported yet.
        attempts: how many POSTs it has taken, of all runs.
        latency_ms: from POST to stored output.
        remark: what a person should know although it went well.
        output_uri: where its output is stored.
        saved_usd: what a reused one had cost; None when unknown.
    """

    ending: Ending
    failure_kind: FailureKind | None = None
    error: str | None = None
    cost_usd: Decimal = Decimal(0)
    is_estimated: bool = False
    attempts: int = 0
    latency_ms: int | None = None
    remark: str | None = None
    output_uri: str | None = None
    saved_usd: Decimal | None = None


def reused(generation: Generation) -> Ended:
    """The ending of a generation that is stored already, from its record."""
    return Ended("reused", saved_usd=generation.cost_usd, output_uri=generation.output_uri)


@dataclass(slots=True)
class Progress:
    """The progress of a run, for its log lines.

    Args:
        total: generations this run has to do something about.
        endings: how many ended how.
        in_flight: submitted and not finished.
        cost_usd: charged so far in this run.
        elapsed_s: since the run began.
        waiting: left to other runs, which have them.
        steps: changes of state that were recorded; looks, polls and waits are none.
        expected_by: our monotonic clock when the last job that is waited for has to be done, or is left to a later run.
    """

    total: int = 0
    endings: Counter[Ending] = field(default_factory=Counter)
    in_flight: int = 0
    cost_usd: Decimal = Decimal(0)
    elapsed_s: float = 0.0
    waiting: int = 0
    steps: int = 0
    expected_by: float = float("-inf")

    def expect_by(self, moment: float) -> None:
        """Announce a slow step that ends at this monotonic time at the latest: until then it is no stall."""
        self.expected_by = max(self.expected_by, moment)

    @property
    def is_at_work(self) -> bool:
        """Whether this run itself still has work to do."""
        return self.total - self.done > self.waiting

    @property
    def done(self) -> int:
        """Generations that need nothing more from this run."""
        return sum(self.endings.values())

    def line(self) -> str:
        """One line for a log or a terminal."""
        failed = self.endings["failed"] + self.endings["unknown"]
        held = sum(self.endings[ending] for ending in ("held_back", "left", "running"))
        worked = self.done - self.endings["reused"]
        left = self.total - self.done
        later = f", {held} left for later" if held else ""
        eta = f", about {left * self.elapsed_s / worked:.0f} s left" if worked and left else ""
        return (
            f"{self.done - held}/{self.total} done, {self.endings['reused']} reused, {failed} failed{later}, "
            f"{self.in_flight} in flight, ${self.cost_usd:.4f}{eta}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """What a run did for one prompt set and one model.

    Args:
        prompt_set: the set.
        resource: the model's resource name.
        endings: how many generations ended how.
        failures: how many failed by which kind.
        examples: a few failures as people read them.
        cost_usd: charged in this run.
        estimated_usd: of that, what is not reported yet.
        saved_usd: what the reused ones had cost, as far as that is known.
        reused_unpriced: reused ones of unknown cost.
        reason: why nothing was to be done, if so.
        latencies_ms: from POST to stored output, of what this run bought.
        pictures: address and prompt of the stored pictures of the set.
        folder: where its outputs are, of whatever kind; None when there are none.
    """

    prompt_set: str
    resource: str
    endings: Counter[Ending] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    examples: tuple[str, ...] = ()
    cost_usd: Decimal = Decimal(0)
    estimated_usd: Decimal = Decimal(0)
    saved_usd: Decimal = Decimal(0)
    reused_unpriced: int = 0
    reason: str | None = None
    latencies_ms: tuple[int, ...] = ()
    pictures: tuple[tuple[str, str], ...] = ()
    folder: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every generation has its final outcome."""
        return not any(self.endings[ending] for ending in ("held_back", "running", "unknown"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What a run did.

    Args:
        models: one per prompt set and model.
        stopped_by: why it stopped submitting, if it did.
        stop_message: the same for people, with what to do.
        elapsed_s: how long it took.
        warnings: caps that were exceeded, and other things that a person should know.
        also_collected: other prompt sets, for which it collected what earlier runs had left behind.
        outstanding: what is paid for, or may be, and not stored; its sentence is the first of the warnings.
    """

    models: tuple[ModelReport, ...]
    stopped_by: FailureKind | Literal["terminated"] | None = None
    stop_message: str | None = None
    elapsed_s: float = 0.0
    warnings: tuple[str, ...] = ()
    also_collected: frozenset[str] = frozenset()
    outstanding: Outstanding = NOTHING
