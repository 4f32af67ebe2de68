"""Words and figures for how far a comparison with Segmind's history reaches. Pure.

The history is read now and then, the ledger is written all the time: what is newer than the history is neither right
nor wrong, and every outcome says how much that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

    from segmind_dagster.reports.spend_reach import Reach

_READ_IT: Final = "Materialize `segmind/request_history` and `segmind/credits`, then this asset; all are free."


def nothing_compared(reach: Reach) -> str:
    """That nothing was compared, why, and what to do about it."""
    if reach.read_at is None:
        why = "it has not been loaded."
    elif reach.newer:
        why = f"it was last read {_minute(reach.read_at)}, and all that our ledger has is newer."
    else:
        why = f"our ledger has no charge that it could list (it was last read {_minute(reach.read_at)})."
    ours = f" Our ledger has {_newer(reach)}." if reach.newer else ""
    return f"Nothing was compared with Segmind's history: {why}{ours} {_READ_IT}"


def compared_until(reach: Reach, read_at: datetime) -> str:
    """Until when was compared, and what is newer."""
    as_of = f"As of {_minute(read_at)}, when Segmind's history was last read"
    if not reach.newer:
        return f"{as_of}; our ledger has no charge after that."
    return f"{as_of}. Not compared yet, because sent after that: {_newer(reach)}. {_READ_IT}"


def figures(reach: Reach) -> Mapping[str, int | Decimal | str]:
    """The same as figures."""
    if reach.read_at is None or reach.covered_from is None:
        times = {"history read at (UTC)": "never"}
    else:
        times = {
            "history read at (UTC)": f"{reach.read_at:%Y-%m-%d %H:%M:%S}",
            "history covers from (UTC)": f"{reach.covered_from:%Y-%m-%d %H:%M:%S}",
        }
    return {**times, "not compared yet": reach.newer, "not compared yet (USD)": reach.newer_usd}


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _newer(reach: Reach) -> str:
    one = "1 submission" if reach.newer == 1 else f"{reach.newer} submissions"
    return f"{one}, ${reach.newer_usd:.4f} charged or reserved"
