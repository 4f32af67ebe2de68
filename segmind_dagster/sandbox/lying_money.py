"""What is said of a cost or a balance, as a number in JSON, a header, or not at all.

What a job really costs is in `jobs`; nothing here charges.
"""

from __future__ import annotations

import math
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segmind_dagster.sandbox.lies import CostLie

_SAID: Mapping[str, float | str] = MappingProxyType(
    {"nan": math.nan, "infinity": math.inf, "text": "a little", "absurd": 1e12}
)


def stated_amount(amount_usd: Decimal | None, lie: CostLie, *, key: str) -> dict[str, float | str]:
    """An amount under a key, as JSON has it; nothing when it is left out."""
    match lie:
        case "absent":
            return {}
        case "right":
            return {key: float(amount_usd or 0)}
        case "negative":
            # not even nothing is told as nothing
            return {key: -float(amount_usd or Decimal("0.01"))}
        case _:
            return {key: _SAID[lie]}


def stated_header(amount_usd: Decimal | None, lie: CostLie, *, name: str) -> dict[str, str]:
    """The same as a header."""
    if lie == "right":
        return {name: str(amount_usd)}
    return {header: str(value) for header, value in stated_amount(amount_usd, lie, key=name).items()}
