"""Whether a reported cost can be true, measured by what was expected: a question for people, not a limit.

What a cap allows is decided elsewhere; a cost is believed for the books however odd it is.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

# models whose price depends on parameters differ by up to ten or twenty between their cheapest and dearest use, and
# a published mean may be a few times off: beyond both together lies a slip of units (cents for dollars) or of tariff
IMPLAUSIBLE_TIMES: Final = 50
# fifty times the cheapest usual price, half a cent: below it even a slip is small change, and a mean that is nearly
# nothing would make everything implausible
FLOOR_USD: Final = Decimal("0.25")


def is_implausible(cost_usd: Decimal | None, estimate_usd: Decimal | None) -> bool:
    """Whether a cost is out of all proportion to what was expected.

    Args:
        cost_usd: as reported; None when it was not.
        estimate_usd: what was expected at most; nothing can be said when it is not known, or nothing.
    """
    if cost_usd is None or not estimate_usd:
        return False
    return cost_usd > FLOOR_USD and cost_usd > IMPLAUSIBLE_TIMES * estimate_usd
