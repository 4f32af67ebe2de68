"""The plan: what happens to each generation and why, and which caps stand in the way before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.errors import BudgetError
from segmind_dagster.ledger import Caps, Spent, State
from segmind_dagster.lifecycle.budget import UnitCost
from segmind_dagster.lifecycle.failures import POLICIES, FailureKind
from segmind_dagster.lifecycle.generation import Generation
from segmind_dagster.planning import Plan, apply_caps, make_plan
from segmind_dagster.registry.models import FAST_FLUX_SCHNELL

SLUG = FAST_FLUX_SCHNELL.slug
NOTHING_SPENT = Spent(run_usd=Decimal(0), day_usd=Decimal(0), set_usd=Decimal(0))
PAID = {kind for kind, policy in POLICIES.items() if policy.is_paid}
PERMANENT = {kind for kind, policy in POLICIES.items() if policy.is_permanent}
amounts = st.integers(1, 10**9).map(lambda micro: Decimal(micro) / 10**6)


def check(made: Plan) -> None:
    if made.refusal:
        raise BudgetError(made.refusal)


def request(number: int = 0) -> Generation:
    return Generation(
        generation_id=f"g-{number}",
        prompt_set="still_life",
        model=FAST_FLUX_SCHNELL,
        prompt="a pear",
        negative_prompt=None,
        body={"prompt": "a pear", "seed": number},
        images={},
        seed=number,
        sample=0,
        variables={},
        position=number,
    )


def record(state: Any, **fields: Any) -> Generation:
    return Generation(generation_id="g-0", model=FAST_FLUX_SCHNELL, prompt_set="still_life", state=state, **fields)


def unit_cost(
    expected: str = "0.01", *, low: str = "0.005", high: str = "0.02", latency_s: float | None = 5.0
) -> UnitCost:
    return UnitCost(
        low=Decimal(low), expected=Decimal(expected), high=Decimal(high), latency_s=latency_s, source="catalogue"
    )


def caps(set_usd: str | None = None, run_usd: str = "25", max_unit_usd: str | None = None) -> Caps:
    return Caps(
        set_usd=None if set_usd is None else Decimal(set_usd),
        run_usd=Decimal(run_usd),
        day_usd=Decimal(100),
        max_unit_usd=None if max_unit_usd is None else Decimal(max_unit_usd),
    )


def plan(
    known: Generation | dict[str, Generation] | None = None,
    *,
    count: int = 1,
    cost: UnitCost | None = unit_cost(),  # noqa: B008  frozen
    limits: Caps | None = None,
    spent: Spent = NOTHING_SPENT,
    is_by_person: bool = True,
    resource: str = "fast_flux_schnell",
) -> Plan:
    if isinstance(known, Generation):
        known = {known.generation_id: known}
    made = make_plan(
        prompt_set="still_life",
        resource=resource,
        asked=[request(number) for number in range(count)],
        known=known or {},
        unit_costs={SLUG: cost},
        caps=limits or caps(),
        requests_per_minute=60,
        is_by_person=is_by_person,
    )
    (held,) = apply_caps([made], caps={"still_life": limits or caps()}, spent={"still_life": spent})
    return held


def action(known: Generation, *, is_by_person: bool = True) -> str:
    (generation,) = plan(known, is_by_person=is_by_person).generations
    assert generation.reason
    return generation.step


def test_an_unrecorded_generation_is_bought() -> None:
    (generation,) = plan().generations
    assert (generation.step, generation.reason, generation.unit_cost) == ("submit", "not generated yet", unit_cost())


@pytest.mark.parametrize(
    ("state", "is_owner_alive", "expected"),
    [
        ("planned", False, "submit"),
        ("planned", True, "submit"),
        ("submitting", True, "wait"),
        ("submitting", False, "look_up"),
        ("submitted", True, "wait"),
        ("submitted", False, "collect"),
        ("unknown", True, "wait"),
        ("unknown", False, "look_up"),
        ("succeeded", False, "reuse"),
        ("succeeded", True, "reuse"),
    ],
)
@pytest.mark.parametrize("is_by_person", [True, False])
def test_each_state_has_one_next_step_for_persons_and_sensors(
    state: State, is_owner_alive: bool, expected: str, is_by_person: bool
) -> None:
    known = record(state, owner="run", is_owner_alive=is_owner_alive)
    assert action(known, is_by_person=is_by_person) == expected


@pytest.mark.parametrize("kind", get_args(FailureKind))
@pytest.mark.parametrize("is_by_person", [True, False])
def test_a_failure_is_bought_again_only_when_it_was_free(kind: FailureKind, is_by_person: bool) -> None:
    expected = "collect" if kind in PAID else "leave" if kind in PERMANENT and not is_by_person else "submit"
    assert action(record("failed", failure_kind=kind), is_by_person=is_by_person) == expected


@pytest.mark.parametrize("state", get_args(State))
@pytest.mark.parametrize("kind", [None, *get_args(FailureKind)])
def test_what_may_have_been_paid_for_is_never_bought_again(state: State, kind: str | None) -> None:
    may_be_paid = state in {"submitting", "submitted", "unknown", "succeeded"} or (state == "failed" and kind in PAID)
    for is_alive in (True, False):
        if action(record(state, failure_kind=kind, is_owner_alive=is_alive)) == "submit":
            assert not may_be_paid


@pytest.mark.parametrize("kind", ["from_the_future", "", None, "RATE_LIMITED", "written_off", "\0", "job_failed "])
def test_an_unknown_failure_kind_is_left_to_people_and_looked_up_before_buying(
    kind: str | None,
) -> None:
    accepted = record("failed", failure_kind=kind, request_id="r-1")
    never_accepted = record("failed", failure_kind=kind)
    assert {action(each, is_by_person=False) for each in (accepted, never_accepted)} == {"leave"}
    assert (action(accepted), action(never_accepted)) == ("collect", "submit")
    (generation,) = plan(accepted, is_by_person=False).generations
    assert "does not know that kind" in generation.reason


def test_what_a_sensor_skips_has_advice_for_a_person() -> None:
    (generation,) = plan(record("failed", failure_kind="invalid_request"), is_by_person=False).generations
    assert generation.reason == f"invalid_request: {POLICIES['invalid_request'].advice}"


def test_only_what_may_be_bought_has_a_price() -> None:
    for state, price in (
        ("unknown", unit_cost()),
        ("submitting", unit_cost()),
        ("submitted", unit_cost()),
        ("succeeded", None),
    ):
        (generation,) = plan(record(state)).generations
        assert generation.unit_cost == price


def test_a_retry_is_distinguished_from_a_first_attempt() -> None:
    (again,) = plan(record("failed", failure_kind="server_error")).generations
    (first,) = plan(record("planned")).generations
    assert (again.step, again.is_retry) == ("submit", True)
    assert (first.step, first.is_retry) == ("submit", False)


def test_decisions_are_in_the_order_of_the_set_and_counted() -> None:
    made = plan({"g-1": record("succeeded"), "g-2": record("submitted")}, count=4)
    assert [generation.generation_id for generation in made.generations] == ["g-0", "g-1", "g-2", "g-3"]
    assert made.counts == {"submit": 2, "reuse": 1, "collect": 1}


def test_only_what_is_bought_is_estimated() -> None:
    made = plan({"g-1": record("succeeded"), "g-2": record("unknown")}, count=4)
    assert made.estimate.expected_usd == Decimal("0.02")
    assert (made.estimate.low_usd, made.estimate.high_usd) == (Decimal("0.01"), Decimal("0.04"))
    assert made.counts["submit"] == 2


def test_nothing_to_buy_costs_nothing_and_takes_no_time() -> None:
    estimate = plan(record("succeeded")).estimate
    assert (estimate.low_usd, estimate.expected_usd, estimate.high_usd, estimate.unpriced) == (0, 0, 0, 0)
    assert estimate.duration_s == 0


def test_the_duration_is_the_time_at_the_configured_rate_and_the_last_job() -> None:
    assert plan(count=120, cost=unit_cost(latency_s=8.0)).estimate.duration_s == 128


def test_the_duration_of_a_model_of_unknown_latency_is_unknown() -> None:
    assert plan(cost=unit_cost(latency_s=None)).estimate.duration_s is None


def test_an_unknown_price_is_counted_as_unknown_and_refused_with_a_remedy() -> None:
    made = plan(cost=None, count=3)
    assert (made.estimate.unpriced, made.estimate.high_usd) == (3, 0)
    for text in ("Nothing was submitted", "nobody knows", "fast_flux_schnell", "'still_life'", "`max_unit_cost_usd`"):
        assert text in (made.refusal or "")
    with pytest.raises(BudgetError, match="nobody knows"):
        check(made)


def test_an_unknown_price_refuses_no_plan_that_buys_nothing() -> None:
    made = plan(record("succeeded"), cost=None)
    check(made)
    assert made.estimate.unpriced == 0


def test_an_unknown_price_reserves_the_set_limit_and_adds_nothing_to_the_expected_cost() -> None:
    made = plan(cost=None, count=3, limits=caps(max_unit_usd="0.5"))
    check(made)
    assert (made.estimate.low_usd, made.estimate.expected_usd) == (0, 0)
    assert (made.estimate.high_usd, made.estimate.unpriced) == (Decimal("1.5"), 0)
    assert (made.estimate.capped, made.estimate.capped_usd) == (3, Decimal("1.5"))
    assert {generation.unit_cost.source for generation in made.generations if generation.unit_cost} == {
        "max_unit_cost_usd"
    }


def test_a_reservation_never_exceeds_the_set_limit_per_generation() -> None:
    made = plan(count=2, limits=caps(max_unit_usd="0.015"))
    check(made)
    assert (made.estimate.low_usd, made.estimate.expected_usd) == (Decimal("0.01"), Decimal("0.02"))
    assert made.estimate.high_usd == Decimal("0.03")


def test_a_price_above_the_set_limit_is_refused_with_both_figures() -> None:
    made = plan(cost=unit_cost("0.05", high="0.08"), limits=caps(max_unit_usd="0.03"))
    for text in ("Nothing was submitted", "$0.0500", "`max_unit_cost_usd`", "'still_life'", "$0.03", "Raise it"):
        assert text in (made.refusal or "")


def test_one_past_cost_above_the_set_limit_refuses_the_model_whatever_its_mean() -> None:
    really = UnitCost(
        low=Decimal("0.01"), expected=Decimal("0.02"), high=Decimal("0.08"), latency_s=1.0, source="ledger"
    )
    assert "costs up to $0.0800" in (plan(cost=really, limits=caps(max_unit_usd="0.03")).refusal or "")
    assert plan(cost=unit_cost("0.02", high="0.08"), limits=caps(max_unit_usd="0.03")).refusal is None


def test_a_price_above_the_set_limit_refuses_no_plan_that_buys_nothing() -> None:
    check(plan(record("succeeded"), cost=unit_cost("0.05", high="0.08"), limits=caps(max_unit_usd="0.03")))


@pytest.mark.parametrize(
    ("limits", "spent", "texts"),
    [
        (
            caps(set_usd="0.05"),
            Spent(run_usd=Decimal(0), day_usd=Decimal(0), set_usd=Decimal("0.04"), reserved={"set": Decimal("0.01")}),
            (
                "The set cap of $0.05",
                "$0.0300 is spent",
                "$0.0100 reserved",
                "$0.0600 more",
                "Raise `budget_usd` in prompt set 'still_life'",
                "ask for fewer",
            ),
        ),
        (
            caps(run_usd="0.07"),
            Spent(run_usd=Decimal("0.011"), day_usd=Decimal(0), set_usd=Decimal(0)),
            ("The run cap of $0.07", "$0.0110 is spent", "$0.0600 more", "Raise SEGMIND_RUN_BUDGET_USD"),
        ),
    ],
    ids=["set", "run"],
)
def test_a_cap_that_would_be_exceeded_is_named_with_cap_used_needed_and_remedy(
    limits: Caps, spent: Spent, texts: tuple[str, ...]
) -> None:
    made = plan(count=3, limits=limits, spent=spent)
    with pytest.raises(BudgetError) as raised:
        check(made)
    for text in ("Nothing was submitted", "(3 generations of fast_flux_schnell)", *texts):
        assert text in str(raised.value)


def test_models_that_exceed_a_cap_in_total_are_refused_in_one_sentence() -> None:
    plans = [plan(count=2), plan(count=2, resource="another")]
    for limits, words in (
        (caps(set_usd="0.07"), "'still_life' (4 generations of fast_flux_schnell, another) needs up to $0.0800 more"),
        (caps(run_usd="0.07"), "'still_life' (4 generations of fast_flux_schnell, another) needs up to $0.0800 more"),
    ):
        held = apply_caps(plans, caps={"still_life": limits}, spent={"still_life": NOTHING_SPENT})
        (refusal,) = {each.refusal for each in held}
        assert words in str(refusal)


def test_a_refused_set_uses_nothing_of_the_run_cap() -> None:
    tight, other = plan(count=3), replace(plan(count=2), prompt_set="other")
    held = apply_caps(
        [tight, other],
        caps={"still_life": caps(set_usd="0.05", run_usd="0.05"), "other": caps(run_usd="0.05")},
        spent={"still_life": NOTHING_SPENT, "other": NOTHING_SPENT},
    )
    assert [bool(each.refusal) for each in held] == [True, False]


def test_a_refused_plan_still_lists_its_decisions() -> None:
    made = plan({"g-1": record("submitted")}, count=3, limits=caps(run_usd="0.01"))
    assert made.refusal
    assert made.counts == {"submit": 2, "collect": 1}


def test_collecting_paid_outputs_needs_no_budget() -> None:
    spent = Spent(run_usd=Decimal(99), day_usd=Decimal(999), set_usd=Decimal(99))
    for state in ("succeeded", "submitted", "unknown", "submitting"):
        check(plan(record(state), limits=caps(set_usd="1", run_usd="1"), spent=spent))
    check(plan(record("failed", failure_kind="bad_output"), limits=caps(set_usd="1"), spent=spent))


def test_a_plan_ignores_the_day_cap() -> None:
    spent = Spent(run_usd=Decimal(0), day_usd=Decimal(1000), set_usd=Decimal(0))
    check(plan(spent=spent))


@given(count=st.integers(1, 30), high=amounts, used=amounts | st.just(Decimal(0)), cap=amounts)
@pytest.mark.parametrize("which", ["set", "run"])
def test_a_cap_allows_a_plan_exactly_when_the_total_fits(
    which: str, count: int, high: Decimal, used: Decimal, cap: Decimal
) -> None:
    is_set = which == "set"
    limits = Caps(set_usd=cap if is_set else None, run_usd=Decimal(10**9) if is_set else cap, day_usd=Decimal(0))
    spent = Spent(run_usd=Decimal(0) if is_set else used, day_usd=Decimal(0), set_usd=used if is_set else Decimal(0))
    cost = UnitCost(low=Decimal(0), expected=high, high=high, latency_s=None, source="ledger")
    made = plan(count=count, cost=cost, limits=limits, spent=spent)
    assert (made.refusal is None) == (used + count * high <= cap)


@given(
    states=st.lists(st.sampled_from([None, *get_args(State)]), max_size=25),
    low=amounts,
    more=amounts,
    most=amounts,
)
def test_an_estimate_is_the_sum_of_what_is_bought(
    states: list[Any], low: Decimal, more: Decimal, most: Decimal
) -> None:
    cost = UnitCost(low=low, expected=low + more, high=low + more + most, latency_s=1.0, source="ledger")
    known = {f"g-{number}": record(state) for number, state in enumerate(states) if state}
    made = plan(known, count=len(states), cost=cost)
    bought = made.counts["submit"]
    assert made.estimate.low_usd == bought * cost.low
    assert made.estimate.expected_usd == bought * cost.expected
    assert made.estimate.high_usd == bought * cost.high
    assert sum(made.counts.values()) == len(states)
