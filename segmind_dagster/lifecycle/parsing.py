"""Reads values from outside in one way: money, durations, whole numbers, times.

A nonsensical value (not a number, infinite, negative, absurdly large) reads as None, "not known": never as an error
and never as zero. Whole answers are read in `gateway.wire`; prompt files and settings are
read and validated in their own packages.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any, Final

# a cost of nothing: that is known, where None is not
FREE: Final = Decimal(0)

# no generation costs or takes that much: such a report is wrong, and would spoil every sum
_ABSURD_PRICE_USD: Final = 10**5
# a balance that high is more likely a reading error
_ABSURD_BALANCE_USD: Final = 10**9
_ABSURD_S: Final = 10**9
_LARGEST: Final = 2**63
_LONGEST_NUMBER: Final = 60


def read_usd(value: Any) -> Decimal | None:
    """The cost of a generation, in any notation."""
    return read_number(value, below=_ABSURD_PRICE_USD)


def read_balance_usd(value: Any) -> Decimal | None:
    """The balance of an account, in any notation."""
    return read_number(value, below=_ABSURD_BALANCE_USD)


def read_number(value: Any, *, below: int = _ABSURD_S) -> Decimal | None:
    """A number that is not negative.

    Args:
        value: a number, or its text; a dollar sign may stand before it.
        below: what it must be less than.
    """
    if not isinstance(value, (str, int, float, Decimal)) or isinstance(value, bool):
        return None
    try:
        text = str(value).strip().removeprefix("$")
        number = Decimal(text)
    except (InvalidOperation, ValueError):  # the second: an integer with thousands of digits
        return None
    # Python reads `1_000`, and digits of every script
    is_plain = text.isascii() and "_" not in text and len(text) <= _LONGEST_NUMBER
    return abs(number) if is_plain and number.is_finite() and 0 <= number < below else None


def read_ms(seconds: Any) -> int | None:
    """A duration that is written in seconds, in whole milliseconds."""
    number = read_number(seconds)
    return None if number is None else int(number * 1000)


def read_integer(value: Any, *, least: int = -_LARGEST, below: int = _LARGEST) -> int | None:
    """A whole number, within what a database's signed 64 bits hold.

    Args:
        value: an integer or its text.
        least: the smallest that is believed.
        below: what it must be less than.
    """
    if not isinstance(value, (str, int, float, Decimal)) or isinstance(value, bool):
        return None
    try:
        number = int(value)
        if not isinstance(value, str) and number != value:
            return None
    except (ValueError, OverflowError):  # no number, or infinity
        return None
    return number if least <= number < below else None


def read_instant(value: Any) -> datetime | None:
    """A time: a datetime, ISO 8601, an HTTP date, or a Unix time; UTC without a zone."""
    if isinstance(value, datetime):
        return _in_utc(value)
    text = value.strip() if isinstance(value, str) else None
    # ten digits and more are a Unix time; ISO 8601 without separators would read some of them as years ago
    if text is not None and not (text.isdecimal() and len(text) >= 10):  # noqa: PLR2004  seconds since 1970
        for read in (datetime.fromisoformat, parsedate_to_datetime):
            try:
                return _in_utc(read(text))
            except (ValueError, OverflowError, TypeError):
                continue
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
        return datetime.fromtimestamp(number / 1000 if number > 1e11 else number, UTC)  # noqa: PLR2004  milliseconds
    except (ValueError, OverflowError, OSError):
        return None


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:  # beyond the last year
        return moment
