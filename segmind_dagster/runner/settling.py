"""Finds out what became of submissions whose answer was never seen, in the provider's own history.

A row of the history is ours when it is for the same model, with the body we sent, made after our intent was
recorded, under a request id that no generation owns. Only a submission that is provably absent, looked up once
the settling time has passed in a history that lists what else was sent since, counts as never sent. When in doubt it
stays unknown.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from segmind_dagster.gateway import wire
from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.ledger import reads
from segmind_dagster.registry import MODELS
from segmind_dagster.runner.witnesses import BEFORE, Witness, testimony

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.registry import Model
    from segmind_dagster.runner.work import ClockPort, GatewayPort, Progress

# the provider's clock and ours may differ
_SKEW = timedelta(minutes=2)
# a clock that is wrong, or a time without its zone, is off by less
_DOUBT = timedelta(days=1)
_FAILED_LOOKUPS = 5
# nobody bears witness, or a witness is missing: so many settling times more
_PATIENCE = 2
_ENDPOINTS = {model.slug: model.api_version for model in MODELS}


@dataclass(frozen=True, slots=True)
class Found:
    """The submission arrived, under this request id."""

    request_id: str


Fate = Found | Literal["absent", "unresolved"]
_Rival = tuple[str, "Mapping[str, Any]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What one look told.

    Args:
        asked_at: when the history was asked.
        listed: every request id in it.
        free: its rows that nobody owns; what is matched is taken out.
        rivals: models and bodies of all submissions without an answer.
        witnesses: accepted requests, when something is old enough to count as absent.
    """

    asked_at: datetime
    listed: frozenset[str]
    free: list[wire.HistoryRow]
    rivals: Sequence[_Rival]
    witnesses: Sequence[Witness] = ()


@dataclass(slots=True, eq=False)
class _Lost:
    model_slug: str
    endpoint: str
    body: Mapping[str, Any]
    intent_at: datetime
    lost_at: datetime
    settle: timedelta
    fate: asyncio.Future[Fate] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Settler:
    """Looks lost submissions up together: one reading of the history serves all that are waiting.

    Args:
        gateway: where the history is.
        ledger: which request ids are owned.
        clock: the time.
        settle_s: how long a submission must stay absent before it counts as never sent.
        v1_timeout_s: how much longer for a v1 call, which may be at work all that time before it is listed.
        progress: where the run is.
    """

    def __init__(
        self,
        gateway: GatewayPort,
        ledger: Ledger,
        clock: ClockPort,
        *,
        settle_s: float,
        v1_timeout_s: float,
        progress: Progress,
    ) -> None:
        self._gateway = gateway
        self._ledger = ledger
        self._clock = clock
        self._progress = progress
        self._settle = {
            "v2": timedelta(seconds=settle_s),
            "v1": timedelta(seconds=settle_s + v1_timeout_s),
        }
        self._patience = timedelta(seconds=settle_s * _PATIENCE)
        self._lost: list[_Lost] = []
        self._assigned: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether anybody waits for the fate of a submission."""
        return bool(self._lost)

    async def settle(
        self, *, model: Model, body: Mapping[str, Any], intent_at: datetime, lost_at: datetime | None = None
    ) -> Fate:
        """The fate of one submission, as soon as it is certain.

        Args:
            model: what was called.
            body: what was sent.
            intent_at: when the intent was recorded.
            lost_at: when this run took it over, if it did: the clock that recorded the intent may be another.
        """
        settle = self._settle[model.api_version]
        lost = _Lost(model.slug, model.api_version, body, intent_at, lost_at or intent_at, settle)
        self._lost.append(lost)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_up_until_settled())
        return await lost.fate

    async def close(self) -> None:
        """Stop looking; whoever still waits gets no answer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        # a task that is cancelled before it began never reaches its own end
        self._finish(list(self._lost), "unresolved")

    async def _look_up_until_settled(self) -> None:
        try:
            await self._look_up()
        finally:
            # nobody may wait for a look-up that is over, whatever ended it
            self._finish(list(self._lost), "unresolved")

    async def _look_up(self) -> None:
        failures = 0
        pause_s = 0.2
        while self._lost:
            await self._clock.sleep(pause_s)
            self._progress.steps += 1
            asked_at = self._clock.now()
            waiting = list(self._lost)
            shortest_s = min((lost.settle for lost in waiting), default=timedelta(0)).total_seconds()
            # what settles late has a longer history to read, and time
            is_late = any(asked_at - lost.lost_at >= lost.settle for lost in waiting)
            pause_s = min(pause_s * 2, max(shortest_s / 4, 0.2), 30.0 if is_late else 10.0)
            try:
                reading = await self._read(waiting, asked_at)
            except GatewayError:
                failures += 1
                if failures >= _FAILED_LOOKUPS:
                    self._finish(waiting, "unresolved")
                continue
            failures = 0
            self._judge(waiting, reading)

    async def _read(self, waiting: Sequence[_Lost], asked_at: datetime) -> _Reading:
        """The history, as far back as a lost one may stand, and what the ledger knows beside it.

        Raises:
            GatewayError: the history could not be read whole.
        """
        since = min(lost.intent_at for lost in waiting) - BEFORE - _SKEW
        rows = await self._gateway.history(since=since, now=asked_at)
        due = [lost for lost in waiting if asked_at - lost.lost_at >= lost.settle]
        if due:
            behind = _behind(rows, await self._owned(rows))
            if behind > _SKEW:
                # before anything counts as absent: it may stand further back than its time says
                rows = await self._gateway.history(since=since - behind, now=asked_at)
        # after the last look at the history, so that whoever is in it is known; and before the owned ones: what is
        # answered meanwhile is then in one of the two at least
        rivals = await asyncio.to_thread(self._ledger.read, reads.unanswered_bodies)
        owned = await self._owned(rows)
        witnesses: Sequence[Witness] = ()
        if due:
            first = min(lost.intent_at for lost in due)
            accepted = await asyncio.to_thread(self._ledger.read, reads.accepted_since, first - BEFORE)
            witnesses = [Witness(*each) for each in accepted]
        return _Reading(
            asked_at=asked_at,
            listed=frozenset(row.request_id for row in rows),
            free=[row for row in rows if row.request_id not in owned and row.request_id not in self._assigned],
            rivals=rivals,
            witnesses=witnesses,
        )

    async def _owned(self, rows: Sequence[wire.HistoryRow]) -> Mapping[str, datetime]:
        return await asyncio.to_thread(self._ledger.read, reads.owned_requests, [row.request_id for row in rows])

    def _judge(self, waiting: Sequence[_Lost], reading: _Reading) -> None:
        # a row that says just what was sent goes before one that says more, which may be another generation's
        for is_its_own in (_says_just, partial(_says_more, rivals=reading.rivals)):
            for lost in [lost for lost in waiting if lost in self._lost]:
                match = next((row for row in reading.free if _may_be(row, lost) and is_its_own(row, lost)), None)
                if match is not None:
                    reading.free.remove(match)
                    self._assigned.add(match.request_id)
                    self._finish([lost], Found(match.request_id))
        for lost in [lost for lost in waiting if lost in self._lost]:
            fate = self._fate_of_missing(lost, reading)
            if fate is not None:
                self._finish([lost], fate)

    def _fate_of_missing(self, lost: _Lost, reading: _Reading) -> Fate | None:
        """Absent, if that is proved; None while it may still show up."""
        waited = reading.asked_at - lost.lost_at
        if waited < lost.settle:
            return None
        if any(_leaves_doubt(row, lost, reading.rivals) for row in reading.free):
            return "unresolved"
        told = testimony(
            [each for each in reading.witnesses if _ENDPOINTS.get(each.model_slug) == lost.endpoint],
            reading.listed,
            sent_at=lost.intent_at,
            early=lost.lost_at + lost.settle / 2,
            late=reading.asked_at - lost.settle / 2,
        )
        if told == "reached":
            return "absent"
        if waited < lost.settle + self._patience:
            return None
        return "unresolved" if told == "late" else "absent"

    def _finish(self, settled: Sequence[_Lost], fate: Fate) -> None:
        for lost in settled:
            self._lost.remove(lost)
            if not lost.fate.done():
                lost.fate.set_result(fate)


def _behind(rows: Sequence[wire.HistoryRow], owned: Mapping[str, datetime]) -> timedelta:
    """How far the history's times may be behind our clock, going by requests whose intent we recorded; a day at most.

    Args:
        rows: of the history.
        owned: when the intent of those that are ours was recorded, by request id.
    """
    offsets = [
        owned[row.request_id] - row.created_at for row in rows if row.request_id in owned and row.created_at is not None
    ]
    return min(max(offsets), _DOUBT) if offsets else _DOUBT


def _may_be(row: wire.HistoryRow, lost: _Lost) -> bool:
    if row.created_at is not None and row.created_at < lost.intent_at - _SKEW:
        return False
    return _is_of_its_model(row, lost)


def _is_of_its_model(row: wire.HistoryRow, lost: _Lost) -> bool:
    return not row.model_slug or _is_named(row, lost.model_slug)


def _is_named(row: wire.HistoryRow, slug: str) -> bool:
    return wire.plain_name(row.model_slug) in {"", wire.plain_name(slug)}


def _leaves_doubt(row: wire.HistoryRow, lost: _Lost, rivals: Sequence[_Rival]) -> bool:
    """Whether a row we cannot read, or cannot tell from another's, may be ours: then absence is not proved."""
    if row.created_at is not None and row.created_at < lost.intent_at - _DOUBT:
        return False
    if row.body is None or row.body.keys().isdisjoint(lost.body):
        return _may_be(row, lost)
    if _may_be(row, lost) and wire.resembles(row.body, lost.body):
        return not any(slug == lost.model_slug and _are_equal(row.body, body) for slug, body in rivals)
    if not wire.covers(row.body, lost.body):
        return False
    # the same body, off in time, or under the name of another model of which nobody has sent it
    return _is_of_its_model(row, lost) or not any(
        _is_named(row, slug) and slug != lost.model_slug and wire.covers(row.body, body) for slug, body in rivals
    )


def _says_just(row: wire.HistoryRow, lost: _Lost) -> bool:
    return row.body is not None and _are_equal(row.body, lost.body)


def _are_equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return wire.covers(one, other) and wire.covers(other, one)


def _says_more(row: wire.HistoryRow, lost: _Lost, *, rivals: Sequence[_Rival]) -> bool:
    """Whether a row is ours with keys that the provider added, and no other unanswered submission explains them."""
    if row.body is None or not wire.covers(row.body, lost.body):
        return False
    return not any(
        slug == lost.model_slug
        and wire.covers(row.body, body)
        and wire.covers(body, lost.body)
        and not wire.covers(lost.body, body)
        for slug, body in rivals
    )
