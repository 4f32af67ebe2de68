"""How far a comparison with Segmind's history reaches: until when it was read, and what our ledger has since.

Values only. `spend` fills them in; how a check words them is in `checks.spend_reach`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What was compared with Segmind's history, and what was not.

    Args:
        read_at: when the history that was compared had been read; None when there was none.
        covered_from: from when on it lists everything.
        has_compared: whether our ledger has a charge in the time that it covers.
        newer: submissions of our ledger after that time, charged or perhaps charged; all of them without a history.
        newer_usd: what these were charged, or what is reserved for them.
    """

    read_at: datetime | None = None
    covered_from: datetime | None = None
    has_compared: bool = False
    newer: int = 0
    newer_usd: Decimal = Decimal(0)
