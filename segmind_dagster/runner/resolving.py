"""Records a person's decision about a submission whose outcome stays unknown.

`lookup` searches the provider's history first; this is for what it cannot find there.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from segmind_dagster.data_folder import as_found, opened
from segmind_dagster.errors import LostOwnershipError, RequestOwnedError, SegmindDagsterError, SettingsError
from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.ledger import moves, reads, writes
from segmind_dagster.ledger.records import ABSENT_BY_WORD
from segmind_dagster.lifecycle.failures import policy_of
from segmind_dagster.lifecycle.matching import CLOCK_DOUBT, Likeness, Names, Submission, compare, match
from segmind_dagster.registry import bundled_catalogue
from segmind_dagster.runner.attempts import may_be_running
from segmind_dagster.runner.clock import SystemClock
from segmind_dagster.runner.lease import watch_leases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from segmind_dagster.ledger import Claim, Ledger
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.lifecycle.matching import HistoryRow
    from segmind_dagster.runner.ports import ClockPort
    from segmind_dagster.settings import Settings

_A_PERSON = "a person"
# of a generation's id: fewer characters may be a slip
_SHORTEST = 6


def unclear(settings: Settings, *, clock: ClockPort | None = None) -> list[Generation]:
    """Accepted generations with a failure kind unknown to this version, which may be paid for."""
    with as_found(settings) as (ledger, _):
        return [each for each in _unusable(ledger, clock or SystemClock()) if policy_of(each.failure_kind).is_unclear]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A submission with an unknown outcome, and the requests of the history that it may be.

    Args:
        record: the generation.
        candidates: rows that may be it, most alike first.
    """

    record: Generation
    candidates: tuple[tuple[Likeness, HistoryRow], ...]


def doubts(settings: Settings, *, clock: ClockPort | None = None) -> tuple[list[Doubt], str | None]:
    """Unresolved generations with their candidates, and why the history could not be read, if so. Free GETs only."""
    clock = clock or SystemClock()
    with as_found(settings) as (ledger, _):
        records = _unknown(ledger, clock)
        if not records:
            return [], None
        unanswered = ledger.read(reads.unanswered)
        try:
            rows = asyncio.run(_rows_since(settings, records, clock.now()))
        except (GatewayError, SettingsError) as error:
            return [Doubt(record, ()) for record in records], str(error)
        owned = ledger.read(reads.owned_requests, [row.request_id for row in rows])
    names = Names.learnt(bundled_catalogue().entries, rows, {each: found.model_slug for each, found in owned.items()})
    free = [row for row in rows if row.request_id not in owned]
    keys = {record.generation_id for record in records}
    matches = match([each for each in unanswered if each.key in keys], free, names=names)
    found = []
    for record in records:
        row = matches.found.get(record.generation_id)
        own = [(Likeness.EXACT, row)] if row is not None else []
        found.append(Doubt(record, (*own, *matches.doubts.get(record.generation_id, ()))))
    return found, None


async def _rows_since(settings: Settings, records: Sequence[Generation], now: datetime) -> list[HistoryRow]:
    from segmind_dagster.gateway.client import Gateway

    since = min((record.intent_at for record in records if record.intent_at), default=now) - CLOCK_DOUBT
    async with Gateway(settings) as gateway:
        return await gateway.history(since=since, now=now, is_whole=False)


def adopt(settings: Settings, generation: str, request_id: str, *, clock: ClockPort | None = None) -> Generation:
    """Adopt a request for a submission; the next run or `collect` fetches its output.

    Args:
        settings: where, with which key.
        generation: its id, or the beginning of it.
        request_id: Segmind's id of the request.
        clock: the time.

    Raises:
        SegmindDagsterError: there is no such unresolved generation, a run was first, Segmind knows no such request, or
            another generation has it already.
    """
    settings.require_api_key()
    clock = clock or SystemClock()
    now = clock.now()
    with _chosen(settings, generation, _UNKNOWN, clock) as (ledger, record):
        asyncio.run(_check_request(settings, record, request_id))
        claim = _taken_over(ledger, record, now)
        try:
            ledger.write(moves.mark_submitted, claim, request_id=request_id, http_status=None, now=now)
        except RequestOwnedError as error:
            raise SegmindDagsterError(f"{error} {record.generation_id} stays unknown.") from error
    return record


def declare_absent(settings: Settings, generation: str, *, clock: ClockPort | None = None) -> Generation:
    """Declare the submission of a generation (its id, or the beginning of it) absent: it may be paid for again.

    Raises:
        SegmindDagsterError: there is no such unresolved generation, it was sent a moment ago, or a run was first.
    """
    clock = clock or SystemClock()
    now = clock.now()
    with _chosen(settings, generation, _UNKNOWN, clock) as (ledger, record):
        _refuse_while_history_may_be_late(record, now, timedelta(seconds=settings.unknown_settle_seconds))
        claim = _taken_over(ledger, record, now)
        ledger.write(writes.mark_absent, claim, reason=ABSENT_BY_WORD, now=now)
    return record


def buy_again(settings: Settings, generation: str, *, clock: ClockPort | None = None) -> Generation:
    """Write off an output that was paid for and cannot be fetched any more: the next run of its set buys it again.

    Args:
        settings: which ledger, with which key.
        generation: its id, or the beginning of it.
        clock: the time.

    Raises:
        SegmindDagsterError: there is no such generation, its job may still be running, or a run was first.
        SettingsError: it is so young that Segmind has to be asked, and there is no key.
    """
    clock = clock or SystemClock()
    now = clock.now()
    with _chosen(settings, generation, _UNUSABLE, clock) as (ledger, record):
        if record.failure_kind == "expired" and may_be_running(record.submitted_at, now):
            asyncio.run(_refuse_while_running(settings, record))
        ledger.write(writes.write_off, record, now=now)
    return record


def _unknown(ledger: Ledger, clock: ClockPort) -> list[Generation]:
    """The generations whose submission has an unknown outcome and that no run is looking after, oldest first."""
    watch_leases(ledger, clock)
    records = ledger.read(reads.unfinished, is_alive=ledger.liveness(clock.monotonic()))
    return [record for record in records if record.state != "submitted"]


def _unusable(ledger: Ledger, clock: ClockPort) -> list[Generation]:
    watch_leases(ledger, clock)
    is_alive = ledger.liveness(clock.monotonic())
    records = ledger.read(reads.unfinished, is_alive=is_alive, also_paid=True)
    return [record for record in records if record.state == "failed"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a person may decide about: its name, how to find such generations, and advice when one is not."""

    name: str
    find: Callable[[Ledger, ClockPort], list[Generation]]
    advice: str


_UNKNOWN = _Kind(
    "unresolved",
    _unknown,
    "`segmind-dagster resolve` lists them; those that a run is looking after are not among them.",
)
_UNUSABLE = _Kind(
    "paid and unusable",
    _unusable,
    "What was paid for and failed as bad_output or expired can be bought again; `collect` tries again free of charge.",
)


@contextmanager
def _chosen(settings: Settings, generation: str, kind: _Kind, clock: ClockPort) -> Iterator[tuple[Ledger, Generation]]:
    """The ledger, and the only generation of a kind whose id has this prefix."""
    with opened(settings) as (ledger, _):
        found = [each for each in kind.find(ledger, clock) if each.generation_id.startswith(generation)]
        if len(found) != 1 or len(generation) < _SHORTEST:
            raise SegmindDagsterError(
                f"{len(found) or 'No'} {kind.name} generation{'s' * (len(found) != 1)} begin{'s' * (len(found) == 1)} "
                f"with {generation!r}; nothing was changed. {kind.advice}"
            )
        try:
            yield ledger, found[0]
        except LostOwnershipError as error:
            raise SegmindDagsterError(
                f"{found[0].generation_id} was {kind.name} a moment ago, but a run was first: it has it now, or has "
                "resolved it. Nothing was changed; look again when that run is done."
            ) from error


def _taken_over(ledger: Ledger, record: Generation, now: datetime) -> Claim:
    return ledger.write(
        writes.take_over, generation_id=record.generation_id, old_owner=record.owner, owner=_A_PERSON, now=now
    )


def _refuse_while_history_may_be_late(record: Generation, now: datetime, settling_time: timedelta) -> None:
    left = settling_time - (now - (record.intent_at or now))
    if timedelta(0) < left <= settling_time:
        raise SegmindDagsterError(
            f"{record.generation_id} was sent less than {settling_time.total_seconds():.0f} s ago, so that Segmind's "
            "history may not list it yet, and buying it again might be paid for twice; nothing was changed. Try again "
            f"in {left.total_seconds():.0f} s (SEGMIND_UNKNOWN_SETTLE_SECONDS)."
        )


async def _refuse_while_running(settings: Settings, record: Generation) -> None:
    """Refuse a request that is unknown to Segmind but so young that it may still be running."""
    from segmind_dagster.gateway.client import Gateway

    request_id = record.request_id or ""
    async with Gateway(settings) as gateway:
        try:
            is_over = (await gateway.status(request_id)).status == "completed"
        except GatewayError:
            row = await gateway.history_row(request_id)
            is_over = row is not None and row.is_completed
    if not is_over:
        raise SegmindDagsterError(
            f"Request {request_id} of {record.generation_id} was accepted less than three hours ago and may still be "
            "running, so that buying it again might be paid for twice; nothing was changed. `segmind-dagster collect` "
            "fetches it once it is done; try again later."
        )


async def _check_request(settings: Settings, record: Generation, request_id: str) -> None:
    """Check that Segmind knows the request and that it matches: a wrong id would lose a paid output."""
    from segmind_dagster.gateway.client import Gateway

    async with Gateway(settings) as gateway:
        try:
            row = await gateway.history_row(request_id)
        except GatewayError:  # often why a person is asked: the job's own record shows it as well
            row = None
        if row is None:
            try:
                await gateway.status(request_id)
            except GatewayError as error:
                if error.kind != "expired":
                    raise
                raise SegmindDagsterError(
                    f"Neither Segmind's records nor its history know request {request_id}; nothing was changed."
                ) from error
            return
    sent = Submission(key=record.generation_id, model_slug=record.model.slug, body=record.body)
    # an unknown name may be the history's name of the model; the inputs decide
    names = Names(slugs=frozenset(bundled_catalogue().entries))
    if compare(row, sent, names) is Likeness.OTHER:
        raise SegmindDagsterError(
            f"Request {request_id} is for {row.model_slug} with other inputs, going by Segmind's history, than "
            f"{record.generation_id} ({record.model.slug}); nothing was changed."
        )
