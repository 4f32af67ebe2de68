"""Settles by a person's word what nobody can find out: a submission whose answer was never seen.

Looking it up by itself is `settling`'s business; this is for when the provider's history cannot tell.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError

from segmind_dagster.data_folder import as_found, opened
from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.gateway import wire
from segmind_dagster.gateway.failures import PAID_KINDS, GatewayError
from segmind_dagster.ledger import moves, reads, writes
from segmind_dagster.runner.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from segmind_dagster.ledger import Claim, GenerationRecord, Ledger
    from segmind_dagster.runner.work import ClockPort
    from segmind_dagster.settings import Settings

_A_PERSON = "a person"
# of a generation's id: fewer characters may be a slip
_SHORTEST = 6
_UNKNOWN = (
    "unresolved",
    "`segmind-dagster resolve` lists them; those that a run is looking after are not among them.",
)
_UNUSABLE = (
    "paid and unusable",
    "What was paid for and failed as bad_output or expired can be bought again; `collect` tries again free of charge.",
)


def unresolved(settings: Settings, *, clock: ClockPort | None = None) -> list[GenerationRecord]:
    """The generations whose submission has an unknown outcome and that no run is looking after, oldest first."""
    with as_found(settings) as (ledger, _):
        return _unresolved(ledger, clock or SystemClock())


def adopt(settings: Settings, generation: str, request_id: str, *, clock: ClockPort | None = None) -> GenerationRecord:
    """Say that a submission arrived, under this request id; the next run or `collect` fetches its output.

    Args:
        settings: where, with which key.
        generation: its id, or the beginning of it.
        request_id: Segmind's id of the request.
        clock: the time.

    Raises:
        SegmindDagsterError: there is no such unresolved generation, Segmind knows no such request, or another
            generation has it already.
    """
    settings.require_api_key()
    clock = clock or SystemClock()
    with opened(settings) as (ledger, _):
        record = _chosen(ledger, generation, clock)
        asyncio.run(_check_request(settings, record, request_id))
        claim = _taken_over(ledger, record, clock)
        try:
            ledger.write(moves.mark_submitted, claim, request_id=request_id, http_status=None, now=clock.now())
        except IntegrityError as error:
            raise SegmindDagsterError(
                f"Request {request_id} belongs to another generation already; {record.generation_id} stays unknown."
            ) from error
    return record


def declare_absent(settings: Settings, generation: str, *, clock: ClockPort | None = None) -> GenerationRecord:
    """Say that a submission never arrived: it may be submitted, and paid for, again.

    Args:
        settings: which ledger.
        generation: its id, or the beginning of it.
        clock: the time.

    Raises:
        SegmindDagsterError: there is no such unresolved generation.
    """
    clock = clock or SystemClock()
    with opened(settings) as (ledger, _):
        record = _chosen(ledger, generation, clock)
        ledger.write(
            writes.forget_unknown,
            _taken_over(ledger, record, clock),
            reason="A person said that this submission never arrived.",
            now=clock.now(),
        )
    return record


def buy_again(settings: Settings, generation: str, *, clock: ClockPort | None = None) -> GenerationRecord:
    """Give up an output that was paid for and cannot be fetched any more: the next run of its set buys it again.

    Args:
        settings: which ledger.
        generation: its id, or the beginning of it.
        clock: the time.

    Raises:
        SegmindDagsterError: there is no such generation.
    """
    clock = clock or SystemClock()
    with opened(settings) as (ledger, _):
        now = clock.now()
        records = ledger.read(reads.unfinished, is_alive=ledger.liveness(now), also_failed=PAID_KINDS)
        record = _only([record for record in records if record.state == "failed"], generation, _UNUSABLE)
        ledger.write(writes.reopen, [record.generation_id], target="planned", now=now)
    return record


def _unresolved(ledger: Ledger, clock: ClockPort) -> list[GenerationRecord]:
    records = ledger.read(reads.unfinished, is_alive=ledger.liveness(clock.now()))
    return [record for record in records if record.state != "submitted"]


def _chosen(ledger: Ledger, generation: str, clock: ClockPort) -> GenerationRecord:
    return _only(_unresolved(ledger, clock), generation, _UNKNOWN)


def _only(records: Sequence[GenerationRecord], generation: str, what: tuple[str, str]) -> GenerationRecord:
    found = [record for record in records if record.generation_id.startswith(generation)]
    if len(found) == 1 and len(generation) >= _SHORTEST:
        return found[0]
    raise SegmindDagsterError(
        f"{len(found) or 'No'} {what[0]} generation{'s' * (len(found) != 1)} begin{'s' * (len(found) == 1)} with "
        f"{generation!r}; nothing was changed. {what[1]}"
    )


def _taken_over(ledger: Ledger, record: GenerationRecord, clock: ClockPort) -> Claim:
    return ledger.write(
        writes.take_over,
        generation_id=record.generation_id,
        old_owner=record.owner,
        owner=_A_PERSON,
        now=clock.now(),
    )


async def _check_request(settings: Settings, record: GenerationRecord, request_id: str) -> None:
    """A slip in the id would lose what was paid for: Segmind must know the request, and not as another one."""
    from segmind_dagster.gateway.client import Gateway

    async with Gateway(settings) as gateway:
        try:
            row = await gateway.history_row(request_id)
        except GatewayError:  # often why a person is asked: the job's own record is the other witness
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
    is_its_model = wire.plain_name(row.model_slug) in {"", wire.plain_name(record.model_slug)}
    if not is_its_model or (row.body is not None and not _can_be(row.body, record.body)):
        raise SegmindDagsterError(
            f"Request {request_id} is for {row.model_slug} with other inputs, going by Segmind's history, than "
            f"{record.generation_id} ({record.model_slug}); nothing was changed."
        )


def _can_be(recorded: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    return recorded.keys().isdisjoint(sent) or wire.resembles(recorded, sent)
