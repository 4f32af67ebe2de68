"""Checks before buying whether the account has paid for something that the ledger does not know.

A ledger restored from a backup, or a second copy, would buy again what is not stored yet. Here Segmind's history is
compared with the ledger; `generate` compares the outputs with it.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.ledger import reads
from segmind_dagster.ledger.restoring import REBUILD_REFUSED
from segmind_dagster.lifecycle.failures import LOOKED_UP
from segmind_dagster.lifecycle.matching import Submission
from segmind_dagster.runner.inputs import digest_at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.lifecycle.matching import HistoryRow
    from segmind_dagster.runner.admission import Admission
    from segmind_dagster.runner.lookup import Lookup
    from segmind_dagster.runner.ports import ClockPort, GatewayPort, OutputsPort

LOGGER = logging.getLogger(__name__)
# a key that Segmind does not accept makes no job; the others were looked up before they were recorded
_NO_JOB: Final = LOOKED_UP | {"unauthorized"}
_PART_S = 1.0
_SHOWN: Final = 3
_UNFINISHED: Final = (
    "Nothing was submitted: `segmind-dagster rebuild` was run for this ledger and restored nothing, so that what was "
    "paid for and lost with it would be bought again. It said: {refused} Run it again until it succeeds."
)


async def refuse_if_outdated(
    lookup: Lookup,
    admission: Admission,
    to_buy: Sequence[Generation],
    *,
    ledger: Ledger,
    gateway: GatewayPort,
    outputs: OutputsPort,
    clock: ClockPort,
    settling_time_s: float,
) -> None:
    """Stop submitting when the history lists unowned requests that look like what is about to be bought.

    An unreadable history stops nothing: it may never have been readable with this key. After a `rebuild` that was
    refused because of it, it does, until one succeeds: then the ledger is known to be lost.

    Args:
        lookup: reads the history.
        admission: is stopped.
        to_buy: what is about to be bought.
        ledger: may say that a rebuild was refused.
        gateway: fetches pictures that requests were made with.
        outputs: provides scratch files for them.
        clock: the time.
        settling_time_s: the settling time: how late the history may be.
    """
    if (refused := await asyncio.to_thread(ledger.read, reads.meta, REBUILD_REFUSED)) is not None:
        admission.stop(None, _UNFINISHED.format(refused=refused))
        return
    await _let_history_catch_up(admission, to_buy, ledger, clock, timedelta(seconds=settling_time_s))
    local = {each.generation_id: pictures for each in to_buy if (pictures := _local_pictures(each))}
    planned = [Submission(key=each.generation_id, model_slug=each.model.slug, body=each.body) for each in to_buy]
    try:
        found = await lookup.look_before_buying(
            planned, pictures=local, digest_at=lambda address: digest_at(gateway, outputs, address)
        )
    except GatewayError:
        return
    if found:
        admission.stop(None, outdated_message([row for _, row in found]))


async def _let_history_catch_up(
    admission: Admission, to_buy: Sequence[Generation], ledger: Ledger, clock: ClockPort, settling_time: timedelta
) -> None:
    """Wait until the history must list what an error was answered to a moment ago and is to be sent again."""
    now = clock.now()
    answered_at = await asyncio.to_thread(ledger.read, reads.refused_since, now - settling_time, without=_NO_JOB)
    newest = max((answered_at[key] for each in to_buy if (key := each.generation_id) in answered_at), default=None)
    if newest is None:
        return
    # a clock that was set back makes it later than now
    until_s = clock.monotonic() + min(newest + settling_time - now, settling_time).total_seconds()
    LOGGER.info(
        "Waiting for up to %.0f s: an error was answered to some of this a moment ago, and Segmind's history may not "
        "list yet what was made in spite of it.", until_s - clock.monotonic(),
    )  # fmt: skip
    while not admission.is_interrupted and (left_s := until_s - clock.monotonic()) > 0:
        await clock.sleep(min(left_s, _PART_S))


def _local_pictures(generation: Generation) -> dict[str, str]:
    return {name: image.sha256 for name, image in generation.images.items() if image.sha256 is not None}


def outdated_message(rows: Sequence[HistoryRow]) -> str:
    """The message: the unknown requests, their cost, and the command that adopts them."""
    costs: list[Decimal] = [row.cost_usd for row in rows if row.cost_usd is not None]
    ids = ", ".join(row.request_id for row in rows[:_SHOWN])
    money = f", charged ${sum(costs):.4f} in all" if costs else ""
    return (
        f"Nothing was submitted: Segmind's history lists {len(rows)} requests ({ids}{money}) for what this run is "
        "about to buy, and the ledger knows none of them. It may be restored from a backup, or a second copy of the "
        "data folder is in use. `segmind-dagster rebuild` adopts them, so that they are fetched and not bought again."
    )
