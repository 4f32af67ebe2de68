"""Values from outside: nonsense reads as not known, and nothing raises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.lifecycle.parsing import read_balance_usd, read_instant, read_integer, read_ms, read_usd

ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(max_size=20)
    | st.binary(max_size=8) | st.lists(st.integers(), max_size=2) | st.just({"usd": 1}) | st.datetimes()
    | st.sampled_from(["1e999999999", "-0", "1_000", "\u0661", "9" * 5000, 10**5000, "sNaN", "0x10"])
)  # fmt: skip


@given(value=ANYTHING)
def test_every_value_reads_as_plausible_or_unknown(value: Any) -> None:
    for read in (read_usd, read_balance_usd):
        amount = read(value)
        assert amount is None or (amount.is_finite() and 0 <= amount < 10**9)
    milliseconds, integer = read_ms(value), read_integer(value)
    assert milliseconds is None or 0 <= milliseconds < 10**12
    assert integer is None or -(2**63) <= integer < 2**63
    moment = read_instant(value)
    assert moment is None or moment.tzinfo is not None


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), float("-inf"), "NaN", "Infinity", -0.01, "-5", 10**5, 1e300, "", " ", "1,5", "1_0",
     True, None, [], {"usd": 1}, b"1", "\u0661", "1e9"],
)  # fmt: skip
def test_a_nonsensical_cost_is_unknown(value: Any) -> None:
    assert read_usd(value) is None


@pytest.mark.parametrize(
    ("value", "amount"), [(0, "0"), ("0.05", "0.05"), ("$1.5", "1.5"), (" 2 ", "2"), (1e-9, "1e-9"), ("-0", "0")]
)
def test_a_cost_is_read_in_every_notation(value: Any, amount: str) -> None:
    read = read_usd(value)
    assert read == Decimal(amount)
    assert not str(read).startswith("-")


@pytest.mark.parametrize(("value", "number"), [(7, 7), ("7", 7), (7.0, 7), (Decimal(7), 7), (7.5, None), ("7.5", None)])
def test_an_integer_is_whole(value: Any, number: int | None) -> None:
    assert read_integer(value) == number


def test_an_integer_is_believed_within_its_bounds_only() -> None:
    assert [read_integer(value, least=0, below=3) for value in (-1, 0, 2, 3)] == [None, 0, 2, None]


def test_a_time_in_any_zone_is_converted_to_utc() -> None:
    there = datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    for written in (there, there.isoformat(), "Sun, 01 Mar 2026 12:00:00 GMT", there.timestamp(), "1772366400"):
        assert read_instant(written) == datetime(2026, 3, 1, 12, tzinfo=UTC), written
