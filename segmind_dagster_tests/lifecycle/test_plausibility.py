"""When a reported cost is out of all proportion to what was expected."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.lifecycle.plausibility import FLOOR_USD, IMPLAUSIBLE_TIMES, is_implausible

USD = st.decimals(min_value=0, max_value=10**4, places=6)


@pytest.mark.parametrize(
    ("cost", "estimate", "expected"),
    [
        ("0.0055", "0.0055", False),
        ("0.055", "0.0055", False),
        ("0.56", "0.0055", True),
        ("0.55", "0.0055", True),
        ("25", "0.5", False),
        ("25.01", "0.5", True),
        ("0.25", "0.000001", False),
        ("0.26", "0.000001", True),
        ("0", "0.5", False),
        ("9", "0", False),
        ("9", None, False),
        (None, "9", False),
        (None, None, False),
    ],
)
def test_a_cost_is_implausible_beyond_a_multiple_and_a_floor(
    cost: str | None, estimate: str | None, *, expected: bool
) -> None:
    amounts = [None if each is None else Decimal(each) for each in (cost, estimate)]
    assert is_implausible(*amounts) is expected


@given(cost=USD, estimate=USD, more=USD)
def test_a_higher_cost_is_never_more_plausible_and_a_higher_estimate_never_less(
    cost: Decimal, estimate: Decimal, more: Decimal
) -> None:
    if is_implausible(cost, estimate):
        assert is_implausible(cost + more, estimate)
        assert cost > FLOOR_USD
        assert cost > IMPLAUSIBLE_TIMES * estimate
    elif estimate:
        assert not is_implausible(cost, estimate + more)
