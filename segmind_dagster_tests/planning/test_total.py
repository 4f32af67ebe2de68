"""Several plans together: what is known adds up, what is not known is said apart, and nothing stands in both."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.ledger import Caps
from segmind_dagster.lifecycle.budget import UnitCost
from segmind_dagster.lifecycle.generation import Generation
from segmind_dagster.planning import Plan, Total, make_plan
from segmind_dagster.registry.models import FAST_FLUX_SCHNELL

PRICE = UnitCost(
    low=Decimal("0.1"), expected=Decimal("0.2"), high=Decimal("0.4"), latency_s=None, source="catalogue"
)  # fmt: skip


def plan(*names: str, resource: str, price: UnitCost | None = PRICE, most: Decimal | None = None) -> Plan:
    return make_plan(
        prompt_set="fruit",
        resource=resource,
        asked=[
            Generation(
                generation_id=name, prompt_set="fruit", model=FAST_FLUX_SCHNELL, prompt="a pear", negative_prompt=None,
                body={}, images={}, seed=None, sample=0, variables={}, position=0,
            )
            for name in names
        ],
        known={},
        unit_costs={FAST_FLUX_SCHNELL.slug: price},
        caps=Caps(max_unit_usd=most),
        requests_per_minute=60,
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["priced", "capped", "unpriced"])), max_size=6))
def test_every_generation_is_counted_once_under_what_is_known_of_its_price(drawn: list[tuple[int, str]]) -> None:
    plans = [
        plan(
            *(f"{number}-{each}" for each in range(count)),
            resource=kind,
            price=PRICE if kind == "priced" else None,
            most=Decimal(2) if kind == "capped" else None,
        )
        for number, (count, kind) in enumerate(drawn)
    ]
    counts = {kind: sum(count for count, each in drawn if each == kind) for kind in ("priced", "capped", "unpriced")}
    total = Total.of(plans)
    assert {kind: getattr(total, kind) for kind in counts} == counts
    expected = [counts["priced"] * amount for amount in (PRICE.low, PRICE.expected, PRICE.high)]
    assert [total.low_usd, total.expected_usd, total.high_usd] == expected
    assert total.capped_usd == counts["capped"] * 2
    assert sum((made.estimate.high_usd for made in plans), Decimal(0)) == total.high_usd + total.capped_usd
    assert total.shared == 0


def test_unknown_prices_are_listed_separately_with_their_models() -> None:
    plans = [
        plan("a", resource="still"), plan("b", "c", resource="film", price=None, most=Decimal(2)),
        plan("d", resource="song", price=None),
    ]  # fmt: skip
    assert Total.of(plans).sentences() == [
        "Together: about $0.2000, between $0.1000 and $0.4000.",
        "Besides: at most $4.0000 more for 2 generations of unknown price (film), going by `max_unit_cost_usd`.",
        (
            "Besides: nobody knows how much for 1 generation of unknown price (song); without a `max_unit_cost_usd` "
            "none of it is bought."
        ),
    ]


def test_without_any_known_price_no_total_is_shown() -> None:
    (said,) = Total.of([plan("a", resource="film", price=None, most=Decimal(2))]).sentences()
    assert said == "Together: at most $2.0000 for 1 generation of unknown price (film), going by `max_unit_cost_usd`."


def test_nothing_to_buy_costs_nothing() -> None:
    assert Total.of([]).sentences() == ["Together: about $0.0000, between $0.0000 and $0.0000."]


def test_generations_shared_by_sets_are_counted_once() -> None:
    total = Total.of([plan("a", "b", resource="still"), plan("b", "c", resource="still"), plan("b", resource="still")])
    assert (total.shared, total.shared_usd) == (2, Decimal("0.4"))
    assert total.sentences()[-1].startswith("It holds 2 generations (about $0.4000) more than will be bought")


def test_a_plan_listed_twice_is_counted_once() -> None:
    made = plan("one", "two", resource="flux")
    for plans in ([made, made], [made, plan("one", "two", resource="flux")]):
        total = Total.of(plans)
        assert (total.shared, total.shared_usd) == (2, 2 * PRICE.expected)
