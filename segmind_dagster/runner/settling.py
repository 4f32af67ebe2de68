"""Finds out what became of submissions whose answer was never seen, in the provider's own history.

A row of the history is ours when it is for the same model, with the body we sent, made after our intent was
recorded, under a request id that no generation owns. Only a submission that is provably absent, looked up once
the settling time has passed, counts as never sent. When in doubt it stays unknown.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

from segmind_dagster.gateway import wire
from segmind_dagster.gateway.failures import GatewayError
from segmind_dagster.ledger import reads
from segmind_dagster.registry import MODELS, bundled_catalogue

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


@dataclass(frozen=True, slots=True)
class Found:
    """The submission arrived, under this request id."""

    request_id: str


Fate = Found | Literal["absent", "unresolved"]
_Rival = tuple[str, "Mapping[str, Any]"]


@dataclass(slots=True, eq=False)
class _Lost:
    model_slug: str
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
        self._lost: list[_Lost] = []
        self._assigned: set[str] = set()
        self._task: asyncio.Task[None] | None = None

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
        lost = _Lost(model.slug, body, intent_at, lost_at or intent_at, self._settle[model.api_version])
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
            pause_s = min(pause_s * 2, max(shortest_s / 4, 0.2), 10.0)
            try:
                free, rivals = await self._read(waiting, asked_at)
            except GatewayError:
                failures += 1
                if failures >= _FAILED_LOOKUPS:
                    self._finish(waiting, "unresolved")
                continue
            failures = 0
            self._judge(waiting, free, rivals, asked_at)

    async def _read(
        self, waiting: Sequence[_Lost], asked_at: datetime
    ) -> tuple[list[wire.HistoryRow], Sequence[_Rival]]:
        """The requests that nobody owns, as far back as a lost one may stand; and who else has lost one.

        Raises:
            GatewayError: the history could not be read whole.
        """
        since = min(lost.intent_at for lost in waiting) - _SKEW
        rows = await self._gateway.history(since=since, now=asked_at)
        if any(asked_at - lost.lost_at >= lost.settle for lost in waiting):
            behind = _behind(rows, await self._owned(rows))
            if behind > _SKEW:
                # before anything counts as absent: it may stand further back than its time says
                rows = await self._gateway.history(since=since - behind, now=asked_at)
        # after the last look at the history, so that whoever is in it is known; and before the owned ones: what is
        # answered meanwhile is then in one of the two at least
        rivals = await asyncio.to_thread(self._ledger.read, reads.unanswered_bodies)
        owned = await self._owned(rows)
        free = [row for row in rows if row.request_id not in owned and row.request_id not in self._assigned]
        return free, rivals

    async def _owned(self, rows: Sequence[wire.HistoryRow]) -> Mapping[str, datetime]:
        return await asyncio.to_thread(self._ledger.read, reads.owned_requests, [row.request_id for row in rows])

    def _judge(
        self,
        waiting: Sequence[_Lost],
        free: list[wire.HistoryRow],
        rivals: Sequence[_Rival],
        asked_at: datetime,
    ) -> None:
        # a row that says just what was sent goes before one that says more, which may be another generation's
        for is_its_own in (_says_just, partial(_says_more, rivals=rivals)):
            for lost in [lost for lost in waiting if lost in self._lost]:
                match = next((row for row in free if _may_be(row, lost) and is_its_own(row, lost)), None)
                if match is not None:
                    free.remove(match)
                    self._assigned.add(match.request_id)
                    self._finish([lost], Found(match.request_id))
        for lost in [lost for lost in waiting if lost in self._lost]:
            if asked_at - lost.lost_at >= lost.settle:
                is_doubtful = any(_leaves_doubt(row, lost, rivals) for row in free)
                self._finish([lost], "unresolved" if is_doubtful else "absent")

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
    return wire.plain_name(row.model_slug) in {"", wire.plain_name(lost.model_slug)}


def _leaves_doubt(row: wire.HistoryRow, lost: _Lost, rivals: Sequence[_Rival]) -> bool:
    """Whether a row we cannot read, or cannot tell from another's, may be ours: then absence is not proved."""
    if row.created_at is not None and row.created_at < lost.intent_at - _DOUBT:
        return False
    if row.body is None or row.body.keys().isdisjoint(lost.body):
        return _may_be(row, lost)
    if _may_be(row, lost) and wire.resembles(row.body, lost.body):
        return not any(slug == lost.model_slug and _are_equal(row.body, body) for slug, body in rivals)
    # the same body, off in time or under a name that no model has
    is_named = wire.plain_name(row.model_slug) in _names()
    return wire.covers(row.body, lost.body) and (_is_of_its_model(row, lost) or not is_named)


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


@cache
def _names() -> frozenset[str]:
    slugs = (*bundled_catalogue().entries, *(model.slug for model in MODELS))
    return frozenset(wire.plain_name(slug) for slug in slugs)
