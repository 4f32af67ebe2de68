"""Caps under prices that turn out otherwise: simulated runs over one ledger, in every order Hypothesis finds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.lifecycle.budget import (
    CAUTION,
    RECENT,
    Budget,
    Caps,
    Exposure,
    Refused,
    ReportedPrice,
    ScopeNames,
    Spend,
    with_report,
)

if TYPE_CHECKING:
    import random

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = "2026-03-01"
CENT = Decimal("0.01")
NOTHING = Decimal(0)


@dataclass
class Attempt:
    """One POST of the simulation."""

    model: str
    scopes: ScopeNames
    reserved_usd: Decimal
    cost_usd: Decimal | None = None
    is_told: bool = False
    is_tight: bool = False


class World:
    """A ledger, and prices that nobody but the provider knows.

    Args:
        prices: real cost of one generation by model.
        estimate_usd: what is believed of each.
    """

    def __init__(self, prices: dict[str, Decimal], estimate_usd: Decimal = CENT) -> None:
        self.prices = prices
        self.estimate_usd = estimate_usd
        self.attempts: list[Attempt] = []
        self.reported: dict[str, ReportedPrice] = {}

    def ask(self, model: str, scopes: ScopeNames, caps: Caps, *, is_kept: bool = True) -> Decimal | Refused:
        spend = Spend(model_slug=model, scopes=scopes, caps=caps, planned_usd=self.estimate_usd)
        budget = self.budget()
        decision = budget.decide(spend)
        assert budget.decide(spend) == decision, "deciding changed something"
        if isinstance(decision, Decimal) and is_kept:
            self.attempts.append(Attempt(model, scopes, decision, is_tight=self.is_tight(spend)))
        return decision

    def is_tight(self, spend: Spend) -> bool:
        """Whether four times the estimate would not have fitted: only a first one goes then."""
        dearer = replace(spend, planned_usd=spend.planned_usd * CAUTION)
        return isinstance(self.budget().decide(dearer), Refused)

    def budget(self) -> Budget:
        committed: dict[tuple[str, str], Decimal] = {}
        for each in self.attempts:
            usd = each.reserved_usd if each.cost_usd is None else each.cost_usd
            for key in each.scopes.pairs():
                committed[key] = committed.get(key, NOTHING) + usd
        return Budget(
            committed=committed,  # type: ignore[arg-type]
            exposures=[
                Exposure(
                    model_slug=each.model,
                    scopes=each.scopes,
                    reserved_usd=each.reserved_usd,
                    count=1,
                    counted_usd=each.reserved_usd if each.cost_usd is None else each.cost_usd,
                    is_awaited=each.cost_usd is None,
                    is_open=each.cost_usd is None,
                )
                for each in self.attempts
                if not each.is_told
            ],
            prices=self.reported,
            now=NOW,
        )

    def end(self, attempt: Attempt, how: str) -> None:
        match how:
            case "reported" | "told later":
                attempt.cost_usd, attempt.is_told = self.prices[attempt.model], True
                self.reported[attempt.model] = with_report(self.reported.get(attempt.model), attempt.cost_usd, NOW)
            case "unreported":
                attempt.cost_usd = self.estimate_usd
            case "free":
                attempt.cost_usd, attempt.is_told = NOTHING, True

    @property
    def open(self) -> list[Attempt]:
        return [each for each in self.attempts if each.cost_usd is None]

    @property
    def unreported(self) -> list[Attempt]:
        return [each for each in self.attempts if each.cost_usd is not None and not each.is_told]

    def really_usd(self, scope: str, name: str) -> Decimal:
        """What the provider charges in the end, if everything in flight succeeds."""
        return sum(
            (
                NOTHING if each.is_told and not each.cost_usd else self.prices[each.model]
                for each in self.attempts
                if getattr(each.scopes, scope) == name
            ),
            NOTHING,
        )


factors = st.integers(1, 40).map(lambda tenths: Decimal(tenths) / 10)
cents = st.integers(1, 60).map(lambda number: number * CENT)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 2), st.sampled_from(["a", "b"])),
        st.tuples(st.sampled_from(["reported", "unreported", "free", "told later"]), st.integers(0, 50), st.just("")),
    ),
    max_size=60,
)


@given(factor_a=factors, factor_b=factors, set_usd=cents, run_usd=cents, day_usd=cents, steps=steps)
def test_a_price_of_up_to_four_times_the_believed_one_exceeds_no_cap(
    factor_a: Decimal,
    factor_b: Decimal,
    set_usd: Decimal,
    run_usd: Decimal,
    day_usd: Decimal,
    steps: list[tuple[str, int, str]],
) -> None:
    world = World({"a": CENT * factor_a, "b": CENT * factor_b})
    caps = Caps(set_usd=set_usd, run_usd=run_usd, day_usd=day_usd)
    for what, number, model in steps:
        if what == "ask":
            world.ask(model, ScopeNames(DAY, f"run {number}", f"set {number % 2}"), caps)
        else:
            among = world.unreported if what == "told later" else world.open
            if among:
                world.end(among[number % len(among)], what)
        for scope, cap_usd in (("set", set_usd), ("run", run_usd), ("day", day_usd)):
            for name in {getattr(each.scopes, scope) for each in world.attempts}:
                # a first one that left no headroom for four times its estimate is the only one that may cost too much
                tight = [
                    max(world.prices[each.model] - each.reserved_usd, NOTHING)
                    for each in world.attempts
                    if each.is_tight and getattr(each.scopes, scope) == name
                ]
                assert world.really_usd(scope, name) <= cap_usd + max(tight, default=NOTHING)


@given(factor=st.integers(41, 400).map(lambda tenths: Decimal(tenths) / 10), cap_usd=cents, steps=steps)
def test_at_a_higher_price_a_cap_is_exceeded_only_by_what_was_in_flight(
    factor: Decimal, cap_usd: Decimal, steps: list[tuple[str, int, str]]
) -> None:
    world = World({"a": CENT * factor, "b": CENT * factor})
    for what, number, model in steps:
        if what == "ask":
            before_usd = world.really_usd("day", DAY)
            granted = world.ask(model, ScopeNames(DAY, f"run {number}", "set"), Caps(day_usd=cap_usd))
            if isinstance(granted, Decimal) and world.reported.keys() >= {"a", "b"}:
                assert before_usd + world.prices[model] <= cap_usd, "sent although its price is known"
        else:
            among = world.unreported if what == "told later" else world.open
            if among:
                world.end(among[number % len(among)], what)


@given(
    factor=st.integers(1, 10).map(lambda tenths: Decimal(tenths) / 10),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    chance=st.randoms(use_true_random=False),
    failing=st.sets(st.integers(0, 40), max_size=6),
)
def test_at_the_estimated_price_plans_that_just_fit_buy_everything(
    factor: Decimal, sizes: list[int], chance: random.Random, failing: set[int]
) -> None:
    """Several runs under one day cap, each with a budget of its own: none ends early, none waits for ever."""
    world = World({"a": CENT * factor})
    day_usd = sum(sizes) * CENT
    left = list(sizes)
    while any(left) or world.open:
        runs = [run for run, count in enumerate(left) if count]
        if runs:
            run = chance.choice(runs)
            caps = Caps(set_usd=sizes[run] * CENT, run_usd=sizes[run] * CENT, day_usd=day_usd)
            decision = world.ask("a", ScopeNames(DAY, f"run {run}", f"set {run}"), caps)
            if isinstance(decision, Decimal):
                left[run] -= 1
                continue
            assert not decision.is_final
            others = {each.scopes.run for each in world.open} - {f"run {run}"}
            assert world.open, "nothing is under way, and it is refused all the same"
            assert decision.awaits_others is bool(others)
        world.end(chance.choice(world.open), "free" if len(world.attempts) in failing else "reported")
    assert len(world.attempts) == sum(sizes)


def test_at_ten_times_the_price_without_reports_at_most_four_are_sent() -> None:
    world = World({"a": CENT * 10})
    scopes, caps = ScopeNames(DAY, "run", "set"), Caps(set_usd=Decimal("0.37"))
    for _ in range(100):
        decision = world.ask("a", scopes, caps)
        for each in world.open:
            world.end(each, "unreported")
    assert isinstance(decision, Refused)
    assert (decision.is_final, decision.awaits_report) == (False, True)
    assert len(world.attempts) == 4
    # the history tells: from then on each counts as what it really costs
    for each in world.unreported:
        world.end(each, "told later")
    assert world.ask("a", scopes, caps) == Refused(
        scope="set", name="set", cap_usd=Decimal("0.37"), spent_usd=Decimal("0.4"), reserved_usd=NOTHING,
        needed_usd=Decimal("0.1"),
    )  # fmt: skip


def test_the_first_of_a_model_reserves_its_estimate_and_the_second_headroom_for_both() -> None:
    world = World({"a": CENT, "b": CENT})
    scopes, caps = ScopeNames(DAY, "run", "set"), Caps(day_usd=CENT * 5)
    assert world.ask("a", scopes, caps) == CENT
    refused = world.ask("a", scopes, caps)
    assert isinstance(refused, Refused)
    assert (refused.reserved_usd, refused.needed_usd, refused.is_final) == (CENT * 4, CENT * 4, False)
    # another model's first one: only the open one of the other counts with caution
    assert world.ask("b", scopes, caps) == CENT


def test_a_failed_first_generation_lets_the_next_one_go() -> None:
    world = World({"a": CENT})
    scopes, caps = ScopeNames(DAY, "run", "set"), Caps(day_usd=CENT)
    world.ask("a", scopes, caps)
    world.end(world.open[0], "free")
    assert world.ask("a", scopes, caps) == CENT


def test_an_unknown_outcome_keeps_its_caution_without_blocking_the_first_report() -> None:
    scopes = ScopeNames(DAY, "run", "set")
    unknown = Exposure(
        model_slug="a", scopes=scopes, reserved_usd=CENT, count=1, counted_usd=CENT, is_awaited=False, is_open=True
    )
    budget = Budget(committed=dict.fromkeys(scopes.pairs(), CENT), exposures=[unknown], prices={}, now=NOW)
    spend = Spend(model_slug="a", scopes=scopes, caps=Caps(set_usd=CENT * 5), planned_usd=CENT)
    assert budget.decide(spend) == CENT
    refused = budget.decide(replace(spend, caps=Caps(set_usd=CENT * 4)))
    assert isinstance(refused, Refused)
    assert (refused.spent_usd, refused.reserved_usd, refused.is_final) == (NOTHING, CENT * 4, False)


@pytest.mark.parametrize(("age", "is_known"), [(RECENT, True), (RECENT + timedelta(seconds=1), False)])
def test_an_old_reported_price_is_ignored(age: timedelta, *, is_known: bool) -> None:
    world = World({"a": CENT})
    world.reported = {"a": ReportedPrice(CENT * 3, NOW - age)}
    scopes, caps = ScopeNames(DAY, "run", "set"), Caps()
    assert world.ask("a", scopes, caps) == (CENT * 3 if is_known else CENT)


def test_the_highest_price_of_an_hour_counts_and_then_expires() -> None:
    low, high = CENT, CENT * 2
    price = with_report(None, high, NOW)
    later = NOW + timedelta(minutes=50)
    assert with_report(price, low, later) == ReportedPrice(high, NOW)
    assert with_report(price, high, later) == ReportedPrice(high, later)
    assert with_report(price, low, NOW + timedelta(minutes=61)) == ReportedPrice(low, NOW + timedelta(minutes=61))
    # a clock that was an hour ahead
    assert with_report(price, low, NOW - timedelta(hours=1)) == price


def test_a_final_refusal_takes_precedence() -> None:
    world = World({"a": CENT})
    scopes = ScopeNames(DAY, "run", "set")
    world.ask("a", scopes, Caps())
    refused = world.ask("a", scopes, Caps(set_usd=CENT * 5, day_usd=CENT / 2))
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.is_final) == ("day", True)


@pytest.mark.parametrize(
    ("scope", "name", "words"),
    [
        ("set", "fruit", ("by prompt set 'fruit'", "`budget_usd` in prompt set 'fruit'")),
        ("run", "r", ("by this run", "SEGMIND_RUN_BUDGET_USD")),
        ("day", DAY, ("on 2026-03-01 (UTC)", "SEGMIND_DAILY_BUDGET_USD")),
    ],
)
def test_a_refusal_names_cap_spent_reserved_needed_and_setting(scope: str, name: str, words: tuple[str, ...]) -> None:
    refused = Refused(
        scope=scope, name=name, cap_usd=CENT * 30, spent_usd=CENT * 11, reserved_usd=CENT * 16, needed_usd=CENT * 4  # type: ignore[arg-type]
    )  # fmt: skip
    said = refused.explain("the next generation needs")
    for text in (f"The {scope} cap of $0.30", "$0.1100 is spent", "$0.1600 reserved", "up to $0.0400 more", *words):
        assert text in said
