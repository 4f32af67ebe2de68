"""Asks Segmind's history what was requested and charged, and which of it answers what the prompt files ask for.

Free GETs only. A request answers a generation when it is for the same model with the body the prompt file would
send, and belongs to no generation yet; a local picture is recognised by its content.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from segmind_dagster.errors import LedgerError
from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.lifecycle.matching import (
    HistoryRow,
    Likeness,
    Names,
    Submission,
    admits_pictures,
    compare,
    may_be_bought,
)
from segmind_dagster.lifecycle.matching import match as lifecycle_match
from segmind_dagster.registry import bundled_catalogue
from segmind_dagster.runner.inputs import digest_at

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping, Sequence

    from segmind_dagster.gateway.client import Gateway
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.outputs import OutputStore
    from segmind_dagster.settings import Settings

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE = 8
# how long Segmind keeps the history is not documented; the official SDK asks for 31 days at once
_KEPT = timedelta(days=30)
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What the history says.

    Args:
        rows: every request that was read, by its id.
        answers: the request that answers a generation which was not known to have one, by generation id.
        doubtful: requests that may or may not be a generation's, by generation id.
    """

    rows: Mapping[str, HistoryRow] = field(default_factory=dict)
    answers: Mapping[str, HistoryRow] = field(default_factory=dict)
    doubtful: Mapping[str, HistoryRow] = field(default_factory=dict)


def ask_history(
    settings: Settings,
    outputs: OutputStore,
    *,
    asked: Sequence[Generation],
    owned: Callable[[Sequence[str]], Collection[str]],
    unpriced: Collection[str],
    expected: Mapping[str, datetime],
    since: datetime,
    now: datetime,
    is_whole: bool,
) -> Requests:
    """Read the history, and look in it for what is asked for.

    Args:
        settings: where, with which key.
        outputs: lends a name for pictures that have to be looked at.
        asked: generations that no request is known for.
        owned: tells which of some request ids belong to other generations.
        unpriced: request ids whose cost is wanted, however old they are.
        expected: when requests were accepted of which outputs or warehouse tell; a whole history lists them.
        since: how far back to read.
        now: the time.
        is_whole: whether only a whole reading of the history will do.

    Raises:
        LedgerError: the history cannot be read, or leaves out what it should list, so that paid requests would be
            overlooked.
    """
    # aiohttp takes a fifth of a second to import
    from segmind_dagster.gateway.client import Gateway

    async def ask() -> Requests:
        async with Gateway(settings) as gateway:
            found = {row.request_id: row for row in await gateway.history(since=since, now=now, is_whole=is_whole)}
            _refuse_with_gaps(gaps(expected, found, now=now), since)
            found.update(await _one_by_one(gateway, [each for each in unpriced if each not in found]))
            taken = owned(list(found))
            free = [row for row in found.values() if row.request_id not in taken and not row.is_failed]
            digests = await _digests(gateway, outputs, asked, free)
            answers, doubtful = match(asked, free, digests)
            return Requests(rows=found, answers=answers, doubtful=doubtful)

    try:
        return asyncio.run(ask())
    except GatewayError as error:
        raise LedgerError(
            "The ledger was not rebuilt, and nothing was changed: without Segmind's request history, what was paid "
            f"for and never stored would be bought again. {error} Run it again once that is mended, or, if you know "
            "that nothing else was paid for, say `segmind-dagster rebuild --despite-gaps`."
        ) from error


def gaps(expected: Mapping[str, datetime], listed: Container[str], *, now: datetime) -> list[str]:
    """Requests that a history leaves out though it should list them, newest first.

    What is older than all that it lists may be older than what Segmind keeps.
    """
    kept_since = min([now - _KEPT, *(moment for each, moment in expected.items() if each in listed)])
    absent = [(moment, each) for each, moment in expected.items() if each not in listed and moment >= kept_since]
    return [each for _, each in sorted(absent, reverse=True)]


def _refuse_with_gaps(absent: Sequence[str], since: datetime) -> None:
    if not absent:
        return
    raise LedgerError(
        f"The ledger was not rebuilt, and nothing was changed: Segmind's request history since "
        f"{since.date().isoformat()} leaves out {len(absent)} of the requests that outputs or warehouse tell of "
        f"({', '.join(absent[:_SHOWN])}), so it may leave out others, and what was paid for and never stored would be "
        "bought again. It may be late: run it again later. Is SEGMIND_API_KEY of the account that paid for them? If "
        "you know that nothing else was paid for, say `segmind-dagster rebuild --despite-gaps`."
    )


def match(
    asked: Sequence[Generation], rows: Sequence[HistoryRow], digests: Mapping[str, str | None]
) -> tuple[dict[str, HistoryRow], dict[str, HistoryRow]]:
    """Give each generation a request that answers it, each request to one generation.

    Args:
        asked: generations.
        rows: unowned requests.
        digests: content digest of the pictures at the addresses in the requests; None where it cannot be read.

    Returns the requests by generation id, and those that leave doubt.
    """
    requests = {request.generation_id: request for request in asked}

    def admits(row: HistoryRow, sent: Submission) -> Likeness:
        wanted = {name: image.sha256 for name, image in requests[sent.key].images.items() if image.sha256 is not None}
        return admits_pictures(row, wanted, digests)

    # what is done and what is young first, because it is still to be had
    ordered = sorted(rows, key=lambda row: (row.is_completed, row.created_at or _LONG_AGO), reverse=True)
    sent = {each.key: each for each in _submissions(asked)}
    matches = lifecycle_match([*sent.values()], ordered, names=_names(), admits=admits)
    doubtful = {key: doubts[0][1] for key, doubts in matches.doubts.items() if may_be_bought(*doubts[0], sent[key])}
    return dict(matches.found), doubtful


def _submissions(asked: Sequence[Generation]) -> list[Submission]:
    return [Submission(key=each.generation_id, model_slug=each.model.slug, body=each.body) for each in asked]


def _names() -> Names:
    return Names(slugs=frozenset(bundled_catalogue().entries))


async def _one_by_one(gateway: Gateway, request_ids: Sequence[str]) -> dict[str, HistoryRow]:
    """Requests that are older than the history was read back."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def ask(request_id: str) -> HistoryRow | None:
        async with limit:
            return await gateway.history_row(request_id)

    rows = await asyncio.gather(*(ask(each) for each in request_ids))
    return {row.request_id: row for row in rows if row is not None}


async def _digests(
    gateway: Gateway, outputs: OutputStore, asked: Sequence[Generation], rows: Sequence[HistoryRow]
) -> dict[str, str | None]:
    """Digests of the pictures in requests that may answer a generation with local pictures."""
    with_images = [request for request in asked if request.images]
    names = _names()
    sent = _submissions(with_images)
    addresses = {
        str(row.body[name])
        for row in rows
        if row.body is not None
        for request, submission in zip(with_images, sent, strict=True)
        if request.images.keys() & row.body.keys() and compare(row, submission, names) >= Likeness.ALTERED
        for name in request.images
        if name in row.body
    }
    limit = asyncio.Semaphore(_AT_ONCE)

    async def look(address: str) -> tuple[str, str | None]:
        async with limit:
            return address, await digest_at(gateway, outputs, address)

    return dict(await asyncio.gather(*(look(address) for address in sorted(addresses))))
