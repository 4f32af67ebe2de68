"""Prices: what this account really paid, else the catalogue, and never a zero for what nobody knows."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.lifecycle.budget import UnitCost
from segmind_dagster.planning import price_models
from segmind_dagster.registry import Catalogue, CatalogueEntry

CATALOGUE = Catalogue({
    "priced": CatalogueEntry("priced", Decimal("0.01"), 5.0),
    "slow": CatalogueEntry("slow", Decimal("0.01"), None),
    "unpriced": CatalogueEntry("unpriced", None, 7.0),
})  # fmt: skip
costs = st.lists(st.integers(0, 10**7).map(lambda micro: Decimal(micro) / 10**6), min_size=5, max_size=40)


def price(slug: str, paid: list[str] | None = None, latencies_ms: list[int] | None = None) -> UnitCost | None:
    observed = {slug: ([Decimal(usd) for usd in paid or []], latencies_ms or [])}
    return price_models([slug], catalogue=CATALOGUE, observed=observed)[slug]


def test_without_observations_the_catalogue_gives_a_range_around_its_mean() -> None:
    assert price("priced") == UnitCost(
        low=Decimal("0.005"), expected=Decimal("0.01"), high=Decimal("0.015"), latency_s=5.0, source="catalogue"
    )


@pytest.mark.parametrize("slug", ["unpriced", "never heard of"])
def test_a_model_without_any_price_has_an_unknown_price(slug: str) -> None:
    assert price(slug) is None


def test_few_observations_do_not_replace_the_catalogue() -> None:
    made = price("priced", ["0.5"] * 4)
    assert made is not None
    assert (made.source, made.expected) == ("catalogue", Decimal("0.01"))


def test_enough_observations_replace_the_catalogue() -> None:
    assert price("priced", ["0.01", "0.02", "0.03", "0.04", "0.05"]) == UnitCost(
        low=Decimal("0.01"), expected=Decimal("0.03"), high=Decimal("0.05"), latency_s=5.0, source="ledger"
    )


def test_one_observation_is_better_than_no_price_at_all() -> None:
    made = price("unpriced", ["0.25"])
    assert made is not None
    assert (made.low, made.expected, made.high, made.source) == (*[Decimal("0.25")] * 3, "ledger")


@pytest.mark.parametrize(
    ("slug", "latencies_ms", "latency_s"),
    [("priced", [1000, 9000, 2000], 2.0), ("priced", [], 5.0), ("slow", [], None)],
)
def test_the_latency_is_the_usual_one_of_this_account_else_the_catalogues(
    slug: str, latencies_ms: list[int], latency_s: float | None
) -> None:
    made = price(slug, latencies_ms=latencies_ms)
    assert made is not None
    assert made.latency_s == latency_s


@given(costs)
def test_the_reservation_is_the_highest_cost_ever_paid(paid: list[Decimal]) -> None:
    made = price_models(["priced"], catalogue=CATALOGUE, observed={"priced": (paid, [])})["priced"]
    assert made is not None
    assert (made.low, made.high) == (min(paid), max(paid))
    assert made.low <= made.expected <= made.high


@given(st.decimals("0.000001", "100", places=6), st.none() | st.decimals("0.000001", "100", places=6))
def test_a_capped_price_keeps_its_order_and_never_exceeds_the_cap(expected: Decimal, cap: Decimal | None) -> None:
    price_ = UnitCost(low=expected / 2, expected=expected, high=expected * 2, latency_s=None, source="ledger")
    capped = price_.capped(cap)
    assert capped.low <= capped.expected <= capped.high
    assert capped.high == (price_.high if cap is None else min(price_.high, cap))
