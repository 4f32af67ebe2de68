"""How far a comparison with Segmind's history reaches: until when it was read, and what our ledger has since. Pure.

The history is read now and then, the ledger is written all the time: what is newer than the history is neither right
nor wrong, and every outcome says how much that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_READ_IT: Final = "Materialize `segmind/request_history` and `segmind/credits`, then this asset; all are free."


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

    @property
    def nothing(self) -> str:
        """That nothing was compared, why, and what to do about it."""
        if self.read_at is None:
            why = "it has not been loaded."
        elif self.newer:
            why = f"it was last read {self._read_at}, and all that our ledger has is newer."
        else:
            why = f"our ledger has no charge that it could tell of (it was last read {self._read_at})."
        ours = f" Our ledger has {self._newer}." if self.newer else ""
        return f"Nothing was compared with Segmind's history: {why}{ours} {_READ_IT}"

    @property
    def until(self) -> str:
        """Until when was compared, and what is newer."""
        as_of = f"As of {self._read_at}, when Segmind's history was last read"
        if not self.newer:
            return f"{as_of}; our ledger has no charge after that."
        return f"{as_of}. Not compared yet, because sent after that: {self._newer}. {_READ_IT}"

    @property
    def figures(self) -> Mapping[str, int | Decimal | str]:
        """The same as figures."""
        if self.read_at is None or self.covered_from is None:
            times = {"history read at (UTC)": "never"}
        else:
            times = {
                "history read at (UTC)": f"{self.read_at:%Y-%m-%d %H:%M:%S}",
                "history covers from (UTC)": f"{self.covered_from:%Y-%m-%d %H:%M:%S}",
            }
        return {**times, "not compared yet": self.newer, "not compared yet (USD)": self.newer_usd}

    @property
    def _read_at(self) -> str:
        return f"{self.read_at:%Y-%m-%d %H:%M} UTC"

    @property
    def _newer(self) -> str:
        one = "1 submission" if self.newer == 1 else f"{self.newer} submissions"
        return f"{one}, ${self.newer_usd:.4f} charged or reserved"
