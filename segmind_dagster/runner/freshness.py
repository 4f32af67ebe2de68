"""Before it buys, a run looks: whether the account has paid for something that the ledger does not know.

A ledger that was restored from a backup, or a second copy of it, would buy again what is not stored yet. What the
ledger beside its outputs tells is looked at in `generate`; here it is Segmind's history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.lifecycle.matching import Submission

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.lifecycle.matching import HistoryRow
    from segmind_dagster.runner.brake import Brake
    from segmind_dagster.runner.lookup import Lookup

_SHOWN: Final = 3


async def refuse_if_outdated(lookup: Lookup, brake: Brake, to_buy: Sequence[Generation]) -> None:
    """Stop submitting when the history lists requests that look like what is about to be bought and nobody owns.

    A history that cannot be read stops nothing: it may never have been readable with this key.

    Args:
        lookup: reads the history.
        brake: told to stop.
        to_buy: what is about to be bought.
    """
    planned = [
        Submission(key=generation.generation_id, model_slug=generation.model.slug, body=generation.body)
        for generation in to_buy
        # another picture makes another generation, and only its content would tell which one a request is for
        if not generation.images
    ]
    try:
        found = await lookup.look_before_buying(planned)
    except GatewayError:
        return
    if found:
        brake.stop(None, outdated_message([row for _, row in found]))


def outdated_message(rows: Sequence[HistoryRow]) -> str:
    """What was seen, with its money, and the command that adopts it."""
    costs: list[Decimal] = [row.cost_usd for row in rows if row.cost_usd is not None]
    ids = ", ".join(row.request_id for row in rows[:_SHOWN])
    money = f", charged ${sum(costs):.4f} in all" if costs else ""
    return (
        f"Nothing was submitted: Segmind's history lists {len(rows)} requests ({ids}{money}) for what this run is "
        "about to buy, and the ledger knows none of them. It may be restored from a backup, or a second copy of the "
        "data folder is in use. `segmind-dagster rebuild` adopts them, so that they are fetched and not bought again."
    )
