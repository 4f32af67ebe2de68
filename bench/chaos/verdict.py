"""Whether the promises held in a scenario, by the provider's own books. Pure: nothing is read or printed here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from decimal import Decimal

    from bench.chaos.books import Wire
    from bench.chaos.scenarios import Scenario

_OPEN = frozenset({"submitting", "submitted", "unknown"})
_PAID_FOR = frozenset({"bad_output", "expired"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the ledger holds of one generation."""

    wire: Wire
    state: str
    failure_kind: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Generations of which the ledger does not know what became of them, and of how many of these a person is told."""

    unknown: int
    shown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known after a scenario.

    Args:
        wanted: how many generations ask for each body.
        charged: how often the provider charged each body.
        charged_usd: what it charged in all.
        posts: POSTs it looked at.
        accepted: of these, so many became jobs.
        running: jobs that were not over although they should have been.
        ledger: by generation.
        taken_twice: requests that two ledgers take for their own.
        met: what was in doubt while the provider lied.
        left: what is in doubt at the end.
        hung: runs that had to be ended, with what they were doing.
        crashed: runs that ended with an unexpected error.
        stopped: runs that ended with a message.
        unwarned: what a run did beside a ledger that is older than the account.
        elapsed_s: in all.
    """

    wanted: Counter[Wire]
    charged: Counter[Wire]
    charged_usd: Decimal
    posts: int
    accepted: int
    running: int
    ledger: Mapping[str, Held]
    met: Doubt
    left: Doubt
    taken_twice: int = 0
    hung: Sequence[str] = ()
    crashed: Sequence[str] = ()
    stopped: Sequence[str] = ()
    unwarned: Sequence[str] = ()
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The figures of one scenario, and the promises that were broken.

    Args:
        scenario: what was played.
        evidence: what is known.
        most_per_generation: the most charges that one generation has.
        bought_twice: charges beyond one for each generation.
        lost: charges for which the ledger holds nothing, and nobody will fetch anything.
        stored: generations that are done.
        broken: the promises that did not hold, with what was seen.
    """

    scenario: Scenario
    evidence: Evidence
    most_per_generation: int
    bought_twice: int
    lost: int
    stored: int
    broken: tuple[str, ...] = field(default=())


def judge(scenario: Scenario, evidence: Evidence) -> Verdict:
    """The verdict over one scenario."""
    beyond = {
        wire: count - evidence.wanted[wire] for wire, count in evidence.charged.items() if count > evidence.wanted[wire]
    }
    held = Counter(
        each.wire
        for each in evidence.ledger.values()
        if each.state == "succeeded" or each.state in _OPEN or each.failure_kind in _PAID_FOR
    )
    lost = sum(max(min(count, evidence.wanted[wire]) - held[wire], 0) for wire, count in evidence.charged.items())
    verdict = Verdict(
        scenario=scenario,
        evidence=evidence,
        most_per_generation=max((extra + 1 for extra in beyond.values()), default=min(evidence.charged.total(), 1)),
        bought_twice=sum(beyond.values()),
        lost=lost,
        stored=sum(each.state == "succeeded" for each in evidence.ledger.values()),
    )
    return Verdict(
        **{name: getattr(verdict, name) for name in Verdict.__slots__ if name != "broken"},
        broken=tuple(_broken(verdict)),
    )


def _broken(verdict: Verdict) -> Iterator[str]:
    scenario, evidence = verdict.scenario, verdict.evidence
    if verdict.bought_twice:
        yield f"bought once: {verdict.bought_twice} charges too many, up to {verdict.most_per_generation} a generation"
    if evidence.taken_twice:
        yield f"a charge belongs to one ledger: {evidence.taken_twice} requests are in two"
    if evidence.running:
        yield f"bought once: {evidence.running} jobs were still running at the provider"
    if scenario.most_usd is not None and evidence.charged_usd > scenario.most_usd:
        yield f"caps hold: ${evidence.charged_usd} charged, and at most ${scenario.most_usd.normalize():f} may be"
    for when, doubt in (("while the provider lied", evidence.met), ("at the end", evidence.left)):
        if doubt.shown < doubt.unknown:
            yield f"doubt is shown: {doubt.unknown} generations in doubt {when}, {doubt.shown} shown"
    if verdict.lost:
        yield f"nothing is lost: {verdict.lost} charges for which the ledger holds no output, no request and no doubt"
    yield from (f"nothing hangs: {problem}" for problem in evidence.hung)
    yield from (f"a run looks before it buys: {problem}" for problem in evidence.unwarned)
    yield from (f"no run fails by itself: {problem}" for problem in evidence.crashed)
    if scenario.must_finish and verdict.stored < evidence.wanted.total():
        wanted = evidence.wanted.total()
        yield f"an honest provider leaves nothing open: {verdict.stored} of {wanted} generations are done"
    if scenario.must_resend and evidence.posts == evidence.accepted:
        yield "what never arrived is sent again: every POST arrived, so that nothing was shown"


def table(verdicts: Sequence[Verdict]) -> str:
    """All verdicts, a line each, for people."""
    head = (
        "scenario", "generations", "charges", "most", "twice", "charged of cap", "doubt", "shown", "left", "lost",
        "stored", "hung", "s", "",
    )  # fmt: skip
    lines = [head, *(_line(each) for each in verdicts)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in {0, len(head) - 1} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _line(verdict: Verdict) -> tuple[str, ...]:
    evidence, cap_usd = verdict.evidence, verdict.scenario.most_usd
    return (
        verdict.scenario.name,
        str(evidence.wanted.total()),
        str(evidence.charged.total()),
        str(verdict.most_per_generation),
        str(verdict.bought_twice),
        "-" if cap_usd is None else f"${evidence.charged_usd:.3f} of ${cap_usd:.3f}",
        str(evidence.met.unknown),
        str(evidence.met.shown),
        str(evidence.left.unknown),
        str(verdict.lost),
        str(verdict.stored),
        str(len(evidence.hung)),
        f"{evidence.elapsed_s:.1f}",
        "BROKEN" if verdict.broken else "held",
    )
