"""What galleries say of money: exact where it stands alone, even where it stands beside others, unknown where it is."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.reports.gallery.cards import Charges, add_up, usd, usd_in_short

AMOUNTS = st.integers(0, 10**12).map(lambda nano: Decimal(nano) / 10**9)


@given(
    st.lists(
        st.tuples(
            AMOUNTS | st.none(),
            st.sampled_from(["reported", "estimated"]),
            st.sampled_from(["succeeded", "unknown"]),
            AMOUNTS,
        )
    )
)
def test_charges_add_up_and_nothing_unknown_is_counted(drawn: list[tuple[Decimal | None, str, str, Decimal]]) -> None:
    attempts = [
        {"cost_usd": cost, "cost_source": source, "state": state, "reserved_usd": reserved}
        for cost, source, state, reserved in drawn
    ]
    charges = add_up(attempts)
    assert charges.cost_usd == sum(cost for cost, *_ in drawn if cost is not None)
    assert charges.open_usd == sum(
        reserved for cost, _, state, reserved in drawn if cost is None and state == "unknown"
    )
    assert charges.unpriced == sum(cost is None and state == "succeeded" for cost, _, state, _ in drawn)
    assert charges.in_words()


@given(AMOUNTS)
def test_an_amount_is_written_exactly(amount: Decimal) -> None:
    text = usd(amount)
    assert Decimal(text.removeprefix("$")) == amount
    assert len(text.partition(".")[2]) >= 2


def test_no_attempts_cost_nothing() -> None:
    assert Charges().in_words() == "nothing"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0.0055", "$0.0055"), ("0.08368", "$0.0837"), ("1", "$1.0000"), ("0.00002", "<$0.0001"), ("0", "$0.0000"),
    ],
)  # fmt: skip
def test_amounts_that_stand_beside_one_another_have_the_same_decimals(amount: str, shown: str) -> None:
    assert usd_in_short(Decimal(amount)) == shown


def test_a_short_amount_still_marks_an_estimate() -> None:
    charges = Charges(cost_usd=Decimal("0.012345"), estimated_usd=Decimal("0.002345"), attempts=2)
    assert charges.in_words(in_short=True) == "$0.0123 ($0.0023 of it estimated)"
    assert charges.in_words() == "$0.012345 ($0.002345 of it estimated)"
