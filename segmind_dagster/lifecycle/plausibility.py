"""Whether a reported cost is plausible, compared with the estimate: a question for people, not a limit.

What a cap allows is decided elsewhere; every reported cost is recorded, however odd it is.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

# prices that depend on parameters vary by a factor of up to ten or twenty, and a published mean may be off by a few
# times: beyond both it is a mistake of units (cents for dollars) or of tariff
IMPLAUSIBLE_TIMES: Final = 50
# fifty times the cheapest usual price, half a cent: below it even a mistake is cheap, and a mean near zero would make
# everything implausible
FLOOR_USD: Final = Decimal("0.25")


def is_implausible(cost_usd: Decimal | None, estimate_usd: Decimal | None) -> bool:
    """Whether a cost is far beyond what was expected.

    Args:
        cost_usd: as reported; None when it was not.
        estimate_usd: what was expected at most; nothing can be said when it is not known, or nothing.
    """
    if cost_usd is None or not estimate_usd:
        return False
    return cost_usd > FLOOR_USD and cost_usd > IMPLAUSIBLE_TIMES * estimate_usd
