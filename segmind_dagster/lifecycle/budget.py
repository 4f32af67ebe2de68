"""What money allows: caps, reservations, and headroom for prices that are higher than believed. Pure.

It decides from what is committed, what is open or was never reported, and the prices reported lately. The inputs are
read and the reservation is written, in one transaction, by `ledger.moves.claim`; `runner.headroom` waits for headroom;
`planning.estimate` says what a generation is likely to cost. Each refusal is worded here.

What an attempt counts as in every cap, until its cost is reported:

- its reservation, or the highest price reported lately for its model if that is more;
- while no price was reported lately, four times its reservation, because the price may have risen; ten times once
  four attempts are open or unreported and no cost was reported. The first one of a model goes with its plain
  estimate, which finds the real price out.

So with a price of up to four times the believed one no cap is exceeded, for any number of runs, except by the excess of
that first generation where less than four times its estimate was left; with a higher price, by no more than what is in
flight until the first report.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

Scope = Literal["set", "run", "day"]
SCOPES: Final[tuple[Scope, ...]] = ("set", "run", "day")

CAUTION: Final = 4
GREAT_CAUTION: Final = 10
# after this many attempts of a model without a report, none is expected soon
_UNREPORTED_ENOUGH: Final = 4
RECENT: Final = timedelta(hours=1)
# how far the provider's history reaches back (segmind_api.md): older costs are never reported
REPORTABLE: Final = timedelta(days=31)
_NOTHING = Decimal(0)
_LIMIT: Final = "max_unit_cost_usd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """The limits on money, in USD; None where there is no such cap.

    Args:
        set_usd: a prompt set's budget, over its lifetime.
        run_usd: one run's.
        day_usd: one UTC day's.
        max_unit_usd: the most one generation of the set may cost.
    """

    set_usd: Decimal | None = None
    run_usd: Decimal | None = None
    day_usd: Decimal | None = None
    max_unit_usd: Decimal | None = None

    def of(self, scope: Scope) -> Decimal | None:
        """The cap of a scope."""
        return {"set": self.set_usd, "run": self.run_usd, "day": self.day_usd}[scope]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCost:
    """Cost of one generation of a model, in USD.

    Args:
        low: lowest likely.
        expected: mean.
        high: highest likely; this is what is reserved.
        latency_s: usual time from submission to result; None when unknown.
        source: `ledger`, `catalogue` or `max_unit_cost_usd`, which is no price but the most that may be paid.
    """

    low: Decimal
    expected: Decimal
    high: Decimal
    latency_s: float | None
    source: str

    @classmethod
    def at_most(cls, max_unit_cost_usd: Decimal) -> UnitCost:
        """The reservation for an unknown price: the most that the set allows for one generation."""
        return cls(
            low=Decimal(0),
            expected=max_unit_cost_usd,
            high=max_unit_cost_usd,
            latency_s=None,
            source=_LIMIT,
        )

    @property
    def is_price(self) -> bool:
        """Whether the price is known, and not only the most that may be paid."""
        return self.source != _LIMIT

    @property
    def dearest(self) -> Decimal:
        """The highest known cost: the highest paid, or the published mean, whose upper end is a guess."""
        return self.high if self.source == "ledger" else self.expected

    def capped(self, max_unit_cost_usd: Decimal | None) -> UnitCost:
        """The same, reserving no more than the set allows for one generation."""
        if max_unit_cost_usd is None or self.high <= max_unit_cost_usd:
            return self
        return UnitCost(
            low=min(self.low, max_unit_cost_usd),
            expected=min(self.expected, max_unit_cost_usd),
            high=max_unit_cost_usd,
            latency_s=self.latency_s,
            source=self.source,
        )


class ScopeNames(NamedTuple):
    """The day, run and prompt set that an attempt's cost counts against.

    Args:
        day: UTC day of the intent, ISO 8601.
        run: Dagster's id of the run, or the owner's own.
        set: key of the prompt set that pays.
    """

    day: str
    run: str
    set: str

    def pairs(self) -> Iterator[tuple[Scope, str]]:
        """Scope and name of each."""
        yield "set", self.set
        yield "run", self.run
        yield "day", self.day


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Attempts that are alike and have no reported cost: open, or charged at an estimate.

    Args:
        model_slug: the model.
        scopes: what they count against.
        reserved_usd: what was reserved for each.
        count: how many.
        counted_usd: what the committed totals hold for them together.
        is_awaited: whether they are in progress and will report their cost by themselves.
        is_open: whether they are not charged yet, so that they may still cost nothing.
    """

    model_slug: str
    scopes: ScopeNames
    reserved_usd: Decimal
    count: int
    counted_usd: Decimal
    is_awaited: bool
    is_open: bool


class ReportedPrice(NamedTuple):
    """The highest cost that was reported for a model lately.

    Args:
        highest_usd: the cost.
        reported_at: when it was.
    """

    highest_usd: Decimal
    reported_at: datetime

    def is_recent(self, now: datetime) -> bool:
        """Whether it is still valid."""
        return now - self.reported_at <= RECENT


def with_report(before: ReportedPrice | None, cost_usd: Decimal, now: datetime) -> ReportedPrice:
    """The known price of a model after another reported cost; it expires after an hour.

    Args:
        before: what was known.
        cost_usd: the cost.
        now: the time.
    """
    if before is not None and before.is_recent(now) and before.highest_usd > cost_usd:
        return before
    return ReportedPrice(cost_usd, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """One generation that is about to be sent.

    Args:
        model_slug: the model.
        scopes: what it counts against.
        caps: the limits.
        planned_usd: its estimate, as the plan reserved it.
    """

    model_slug: str
    scopes: ScopeNames
    caps: Caps
    planned_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A cap refuses it.

    Args:
        scope: whose cap.
        name: of that set, run or day.
        cap_usd: the cap.
        spent_usd: charged, as reported.
        reserved_usd: kept for what is open or was never reported.
        needed_usd: what is asked for.
        is_final: whether nothing that ends can free headroom for it.
        awaits_others: whether what another run has in progress may free headroom when it ends.
        awaits_report: whether costs that are not reported yet do.
    """

    scope: Scope
    name: str
    cap_usd: Decimal
    spent_usd: Decimal
    reserved_usd: Decimal
    needed_usd: Decimal
    is_final: bool = True
    awaits_others: bool = False
    awaits_report: bool = False

    def explain(self, needing: str) -> str:
        """The refusal for people: cap, spent, reserved, needed, and the setting to change.

        Args:
            needing: what the money is for, with its verb: `the next generation needs`.
        """
        whose, remedy = _EXPLANATIONS[self.scope]
        return (
            f"The {self.scope} cap of ${self.cap_usd} stands in the way: ${self.spent_usd:.4f} is spent and "
            f"${self.reserved_usd:.4f} reserved {whose.format(name=self.name)}, and {needing} up to "
            f"${self.needed_usd:.4f} more. {remedy.format(name=self.name)}."
        )


_EXPLANATIONS: Final[Mapping[Scope, tuple[str, str]]] = {
    "set": ("by prompt set '{name}'", "Raise `budget_usd` in prompt set '{name}', or ask for fewer generations"),
    "run": (
        "by this run",
        "Raise SEGMIND_RUN_BUDGET_USD, or materialize less at once: what is missing resumes in the next run",
    ),
    "day": (
        "on {name} (UTC)",
        "Raise SEGMIND_DAILY_BUDGET_USD, or materialize again tomorrow: what is missing resumes by itself",
    ),
}


@dataclass(slots=True)
class _OfModel:
    """What is open or unreported of one model in one scope.

    Args:
        reserved_usd: reservations together.
        at_price_usd: the same, each at least the highest price reported lately.
        counted_usd: what the committed total holds for them.
    """

    reserved_usd: Decimal = _NOTHING
    at_price_usd: Decimal = _NOTHING
    counted_usd: Decimal = _NOTHING


class Budget:
    """What the caps allow at one moment.

    Deciding changes nothing; add what is allowed with `reserve`, so that the next decision of the same transaction
    counts it.

    Args:
        committed: charged and reserved, by scope and name.
        exposures: what is part of that and was not reported.
        prices: the highest reported lately, by model slug.
        now: the time.
    """

    def __init__(
        self,
        *,
        committed: Mapping[tuple[Scope, str], Decimal],
        exposures: Iterable[Exposure],
        prices: Mapping[str, ReportedPrice],
        now: datetime,
    ) -> None:
        self._committed: defaultdict[tuple[Scope, str], Decimal] = defaultdict(Decimal, committed)
        self._highest_usd = {slug: price.highest_usd for slug, price in prices.items() if price.is_recent(now)}
        self._exposed: defaultdict[tuple[Scope, str], dict[str, _OfModel]] = defaultdict(dict)
        self._runs_in: defaultdict[tuple[Scope, str], set[str]] = defaultdict(set)
        self._runs_of: defaultdict[str, set[str]] = defaultdict(set)
        self._unreported: set[tuple[Scope, str]] = set()
        self._counts: Counter[str] = Counter()
        self._awaited: Counter[str] = Counter()
        for exposure in exposures:
            self._add(exposure)

    def decide(self, spend: Spend) -> Decimal | Refused:
        """What to reserve for a generation, or which cap refuses it; of several refusals a final one takes precedence.

        Args:
            spend: the generation.
        """
        slug = spend.model_slug
        reserve_usd = max(spend.planned_usd, self._highest_usd.get(slug, _NOTHING))
        # the first generation of a model counts with its estimate: it finds out the real price
        is_first = not self._awaited[slug]
        needed_usd = reserve_usd if is_first else reserve_usd * self._caution(slug, one_more=True)
        refusals = [
            refused
            for scope, name in spend.scopes.pairs()
            if (refused := self._refusal(spend, scope, name, reserve_usd=reserve_usd, needed_usd=needed_usd))
        ]
        return min(refusals, key=lambda refused: not refused.is_final, default=reserve_usd)

    def reserve(self, spend: Spend, reserve_usd: Decimal) -> None:
        """Count an allowed generation.

        Args:
            spend: the generation.
            reserve_usd: what was decided.
        """
        for key in spend.scopes.pairs():
            self._committed[key] += reserve_usd
        self._add(
            Exposure(
                model_slug=spend.model_slug,
                scopes=spend.scopes,
                reserved_usd=reserve_usd,
                count=1,
                counted_usd=reserve_usd,
                is_awaited=True,
                is_open=True,
            )
        )

    def _add(self, exposure: Exposure) -> None:
        slug, count = exposure.model_slug, exposure.count
        at_price_usd = max(exposure.reserved_usd, self._highest_usd.get(slug, _NOTHING)) * count
        self._counts[slug] += count
        if exposure.is_awaited:
            self._awaited[slug] += count
            self._runs_of[slug].add(exposure.scopes.run)
        for key in exposure.scopes.pairs():
            found = self._exposed[key].setdefault(slug, _OfModel())
            found.reserved_usd += exposure.reserved_usd * count
            found.at_price_usd += at_price_usd
            found.counted_usd += exposure.counted_usd
            if exposure.is_awaited:
                self._runs_in[key].add(exposure.scopes.run)
            if not exposure.is_open:
                self._unreported.add(key)

    def _caution(self, slug: str, *, one_more: bool = False) -> int:
        """How many times its reservation an attempt of a model counts as."""
        if slug in self._highest_usd:
            return 1
        return CAUTION if self._counts[slug] + one_more <= _UNREPORTED_ENOUGH else GREAT_CAUTION

    def _refusal(
        self, spend: Spend, scope: Scope, name: str, *, reserve_usd: Decimal, needed_usd: Decimal
    ) -> Refused | None:
        cap_usd = spend.caps.of(scope)
        if cap_usd is None:
            return None
        awaited = self._runs_in[scope, name]
        if needed_usd > reserve_usd:
            # an open attempt of this model will show its price
            awaited = awaited | self._runs_of[spend.model_slug]
        spent_usd, kept_usd = self._committed[scope, name], _NOTHING
        for slug, found in self._exposed.get((scope, name), {}).items():
            spent_usd -= found.counted_usd
            if slug in self._highest_usd:
                kept_usd += found.at_price_usd
            else:
                kept_usd += found.reserved_usd * self._caution(slug, one_more=slug == spend.model_slug)
        if spent_usd + kept_usd + needed_usd <= cap_usd:
            return None
        return Refused(
            scope=scope,
            name=name,
            cap_usd=cap_usd,
            spent_usd=spent_usd,
            reserved_usd=kept_usd,
            needed_usd=needed_usd,
            is_final=spent_usd + reserve_usd > cap_usd,
            awaits_others=bool(awaited - {spend.scopes.run}),
            awaits_report=(scope, name) in self._unreported,
        )
