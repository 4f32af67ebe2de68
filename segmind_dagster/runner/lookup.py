"""Looks up submissions in Segmind's history: those whose answer was lost, and those answered with an error.

One reading serves all waiting submissions. What a row proves is decided in `lifecycle.matching`; this module decides
when the history is read, adds what the ledger knows, and ends the waiting. A run also looks before it buys: requests in
the history that the ledger does not know may be the generations it is about to buy.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from segmind_dagster.gateway.errors import BrokenOffError, GatewayError
from segmind_dagster.ledger import reads, writes
from segmind_dagster.ledger.restoring import REBUILT_AT
from segmind_dagster.lifecycle.matching import (
    ABSENT_REVIEW,
    CLOCK_TOLERANCE,
    Accepted,
    HistoryRow,
    Likeness,
    Names,
    Reading,
    Submission,
    admits_pictures,
    clock_offset,
    compare,
    judge_absence,
    match,
    may_be_bought,
    shows_another_buyer,
    shows_refusal,
)
from segmind_dagster.lifecycle.parsing import read_instant

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.ledger.records import UnaccountedAttempt
    from segmind_dagster.registry import Model
    from segmind_dagster.runner.ports import ClockPort, GatewayPort

RUN_STAYS_OPEN: Final = 3.0
"""Settling times that a run waits for the fate of a submission; looking goes on in the next collecting run."""

COLLECT_STAYS_OPEN: Final = 10.0
"""The same for a run that only collects: long enough for a proof without a control."""

_FAILED_READINGS = 5
_MOST_PICTURES = 50
# waiting ends only after this many readings, however long one takes
_LEAST_READINGS = 6
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
_PART_S = 1.0
# a request that was accepted after the lost one may have been sent a little earlier
_BEFORE = timedelta(minutes=1)
# with an empty ledger: the history's own default window (official SDK 1.3.0, generations.py)
_DEFAULT_WINDOW = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Found:
    """The submission was accepted under this request id."""

    request_id: str


Fate = Found | Literal["absent", "unresolved"]
"""Found; proved absent; not decidable."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A submission that waits for its lookup.

    Args:
        submission: what was sent.
        model: what was called.
        since_s: when this run began to look, on the monotonic clock.
        wants_proof: whether its absence has to be proved, or a reading that is up to date will do.
        goes_on: for one that is to be sent again after an error: whether waiting is worth while; None when it is not to
            be sent again.
        readings: how often the history was read for it.
        fate: where the answer goes.
    """

    submission: Submission
    model: Model
    since_s: float
    wants_proof: bool
    goes_on: Callable[[], bool] | None = None
    readings: int = 0
    fate: asyncio.Future[Fate] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """One reading of the history, and the state of the ledger right after it.

    Args:
        rows: of the history.
        free: rows that no generation of this ledger owns.
        names: how the history names models.
        rivals: submissions without an answer, by generation id.
        offset: how far the history's times are ahead of ours.
        ambiguous: request ids that are listed with more than one body, so that they say nothing of whose they are.
        accepted: what the ledger knows to have been accepted since then.
        unaccounted: what counts as never accepted of what was sent since then.
        is_shared: whether another buyer buys the same with this account, so that no row is certainly ours.
        recent: request ids that were made since then; pages have older rows as well.
    """

    rows: Sequence[HistoryRow]
    free: list[HistoryRow]
    names: Names
    rivals: Sequence[Submission]
    offset: timedelta
    ambiguous: frozenset[str]
    accepted: Sequence[Accepted]
    unaccounted: Sequence[UnaccountedAttempt]
    is_shared: bool
    recent: frozenset[str]


class Lookup:
    """Looks up submissions with shared readings of the history.

    Args:
        gateway: where the history is.
        ledger: which requests are ours.
        clock: the time.
        settling_time_s: the settling time: how late the history may be.
        over_s: when a job of a model must be over, in seconds.
        likely_over_s: when a job of a model is probably over, in seconds.
        stays_open: settling times that a submission is waited for.
        slugs: models that Segmind sells, as far as we know.
    """

    def __init__(
        self,
        gateway: GatewayPort,
        ledger: Ledger,
        clock: ClockPort,
        *,
        settling_time_s: float,
        over_s: Callable[[Model], float],
        likely_over_s: Callable[[Model], float],
        stays_open: float = RUN_STAYS_OPEN,
        slugs: Collection[str] = (),
    ) -> None:
        self._gateway = gateway
        self._ledger = ledger
        self._clock = clock
        self._settling_time = timedelta(seconds=settling_time_s)
        self._over_s = over_s
        self._likely_over_s = likely_over_s
        self._stays_open = stays_open
        self._slugs = frozenset(slugs)
        self._waiting: list[_Waiting] = []
        self._readings: list[Reading] = []
        self._has_shown_unfinished = False
        self._finds_out: str | None = None
        self._assigned: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def is_busy(self) -> bool:
        """Whether any submission is being looked up."""
        return bool(self._waiting)

    async def find(self, key: str, model: Model, body: Mapping[str, Any], sent_at: datetime) -> Fate:
        """Look up a submission whose answer was lost, until its fate is certain or waiting ends."""
        return await self._wait(key, model, body, sent_at, wants_proof=True)

    async def find_refused(self, key: str, model: Model, body: Mapping[str, Any], sent_at: datetime) -> Fate:
        """Whether a submission that was answered with an error was accepted, by the next reading.

        "absent" only means that one reading, which lists earlier accepted requests, does not list it.
        """
        return await self._wait(key, model, body, sent_at, wants_proof=False)

    async def find_before_retry(
        self,
        key: str,
        model: Model,
        body: Mapping[str, Any],
        sent_at: datetime,
        *,
        goes_on: Callable[[], bool],
    ) -> Fate:
        """The same before a retry, so that "absent" needs more evidence: the history must have come that far.

        Args:
            key: the generation's id.
            model: what was called.
            body: what was sent.
            sent_at: when its intent was recorded.
            goes_on: whether it is worth waiting for that.
        """
        return await self._wait(key, model, body, sent_at, wants_proof=False, goes_on=goes_on)

    async def look_before_buying(
        self,
        planned: Sequence[Submission],
        *,
        pictures: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        digest_at: Callable[[str], Awaitable[str | None]] | None = None,
    ) -> list[tuple[Submission, HistoryRow]]:
        """Unowned requests that look like what is about to be bought.

        Reads back to the newest request in the ledger: younger unknown ones were not bought through this ledger.

        Args:
            planned: what is about to be bought, local pictures left out.
            pictures: content digests of its local pictures, by key and by place in the body.
            digest_at: reads the digest of what is at an address.

        Raises:
            GatewayError: the history could not be read.
        """
        now = self._clock.now()
        newest = await asyncio.to_thread(self._ledger.read, reads.newest_accepted_at)
        since = min(newest, now) if newest is not None else now - _DEFAULT_WINDOW
        absent = await asyncio.to_thread(self._ledger.read, reads.unaccounted, since=now - ABSENT_REVIEW)
        wanted = {each.key for each in planned}
        looked_for = [each.submission.sent_at for each in absent if each.is_inferred or each.generation_id in wanted]
        since = min([since, *filter(None, looked_for)]) - CLOCK_TOLERANCE
        view = await self._read(since, now, is_whole=False, takes_part=True)
        await self._charge_late(view)
        taken = self._assigned | view.ambiguous
        paid = [row for row in view.free if not row.is_failed and row.request_id not in taken]
        # submissions that are looked up have the first claim on a row
        digests = await self._digests(planned, paid, view.names, pictures, digest_at)

        def admits(row: HistoryRow, submission: Submission) -> Likeness:
            wanted = pictures.get(submission.key)
            return Likeness.EXACT if wanted is None else admits_pictures(row, wanted, digests)

        matches = await asyncio.to_thread(match, [*view.rivals, *planned], paid, names=view.names, admits=admits)
        keys = {each.key for each in planned} - {each.key for each in view.rivals}
        found = [(each, matches.found[each.key]) for each in planned if each.key in matches.found.keys() & keys]
        rebuilt = await asyncio.to_thread(self._ledger.read, reads.meta, REBUILT_AT)
        # a person who declared a submission absent has seen the doubtful rows; what may be ours, and a
        # rebuild could not tell, is `unknown` since
        declared = {each.generation_id: each.ended_at for each in absent if each.is_declared}
        decided = [read_instant(rebuilt)] if rebuilt is not None else []
        doubted = [
            (each, row)
            for each in planned
            for likeness, row in matches.doubts.get(each.key, ())
            if each.key in keys
            and may_be_bought(likeness, row, each)
            and not any(self._is_decided(row, at, view.offset) for at in (*decided, declared.get(each.key)))
        ]
        return [*found, *doubted]

    def _is_decided(self, row: HistoryRow, moment: datetime | None, offset: timedelta) -> bool:
        """Whether a request was listed when something was decided; also where the history does not tell when."""
        return moment is not None and (
            row.created_at is None or row.created_at <= moment + offset - self._settling_time
        )

    async def _digests(
        self,
        planned: Sequence[Submission],
        rows: Sequence[HistoryRow],
        names: Names,
        pictures: Mapping[str, Mapping[str, str]],
        digest_at: Callable[[str], Awaitable[str | None]] | None,
    ) -> dict[str, str | None]:
        """Digests of the pictures in requests that may match the plan; only a few, the rest leaves doubt."""
        addresses = {
            str(row.body[name])
            for each in planned
            for row in rows
            if each.key in pictures and row.body is not None and compare(row, each, names) >= Likeness.ALTERED
            for name in pictures[each.key]
            if name in row.body
        }
        few = sorted(addresses)[:_MOST_PICTURES]
        if digest_at is None or not few:
            return {}
        return dict(zip(few, await asyncio.gather(*map(digest_at, few)), strict=True))

    async def close(self) -> None:
        """Stop; tasks that still wait get "unresolved"."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        # a task cancelled before it began never runs its cleanup
        self._finish(list(self._waiting), "unresolved")

    async def _wait(
        self,
        key: str,
        model: Model,
        body: Mapping[str, Any],
        sent_at: datetime,
        *,
        wants_proof: bool,
        goes_on: Callable[[], bool] | None = None,
    ) -> Fate:
        if self._is_closed:
            return "unresolved"
        submission = Submission(key=key, model_slug=model.slug, body=body, sent_at=sent_at)
        waiting = _Waiting(
            submission,
            model,
            since_s=self._clock.monotonic(),
            wants_proof=wants_proof,
            goes_on=goes_on,
        )
        self._waiting.append(waiting)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_until_resolved())
        return await waiting.fate

    async def _look_until_resolved(self) -> None:
        try:
            await self._look()
        finally:
            # no task may wait for a reading that has ended, for whatever reason
            self._finish(list(self._waiting), "unresolved")

    async def _look(self) -> None:
        failures = 0
        pause_s = _FIRST_PAUSE_S
        while self._waiting:
            await self._pause(pause_s)
            settling_time_s = self._settling_time.total_seconds()
            pause_s = min(pause_s * 2, max(settling_time_s / 4, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            asked_s, asked_at = self._clock.monotonic(), self._clock.now()
            waiting = list(self._waiting)
            # proving absence takes whole readings; to find a submission, the newest rows are enough
            is_whole = any(each.wants_proof and asked_s - each.since_s >= settling_time_s / 2 for each in waiting)
            since = min(each.submission.sent_at or asked_at for each in waiting) - _BEFORE - CLOCK_TOLERANCE
            try:
                view, is_whole = await self._read_as_far_as_possible(since, asked_at, is_whole=is_whole)
            except GatewayError:
                failures += 1
                if failures >= _FAILED_READINGS:
                    self._finish(waiting, "unresolved")
                continue
            failures = 0
            reading = Reading(
                asked_s=asked_s,
                asked_at=asked_at,
                listed=frozenset(row.request_id for row in view.rows),
                accepted=view.accepted,
            )
            self._has_shown_unfinished |= any(row.is_unfinished for row in view.rows)
            if is_whole:
                self._readings.append(reading)
            await self._judge(waiting, view, reading)
            await self._charge_late(view)

    async def _read_as_far_as_possible(
        self, since: datetime, asked_at: datetime, *, is_whole: bool
    ) -> tuple[_View, bool]:
        """A reading, and whether it is whole: an incomplete one may still list what is looked for.

        Raises:
            GatewayError: the history could not be read.
        """
        if is_whole:
            with suppress(GatewayError):
                return await self._read(since, asked_at, is_whole=True), True
        return await self._read(since, asked_at, is_whole=False), False

    async def _pause(self, pause_s: float) -> None:
        """Wait for the next reading; in parts, because a new submission is looked up soon."""
        before = len(self._waiting)
        while pause_s > 0:
            part_s = min(pause_s, _PART_S)
            await self._clock.sleep(part_s)
            pause_s -= part_s
            if len(self._waiting) > before:
                return

    async def _read(self, since: datetime, asked_at: datetime, *, is_whole: bool, takes_part: bool = False) -> _View:
        """Read the history as far back as needed, and the ledger right after it.

        Args:
            since: how far back.
            asked_at: the time.
            is_whole: whether it has to be all there is.
            takes_part: whether rows that came before it could not be read on will do.

        Raises:
            GatewayError: the history could not be read, or not whole.
        """
        rows: Sequence[HistoryRow]
        try:
            rows = await self._gateway.history(since=since, now=asked_at, is_whole=is_whole)
        except BrokenOffError as error:
            if not takes_part or not error.rows:
                raise
            rows = error.rows
        # after the history, so that its requests are known; and before the owned ones: what is answered meanwhile
        # is then in one of the two at least
        rivals = await asyncio.to_thread(self._ledger.read, reads.unanswered)
        accepted = await asyncio.to_thread(self._ledger.read, reads.accepted_since, since)
        owned = await asyncio.to_thread(self._ledger.read, reads.owned_requests, [row.request_id for row in rows])
        offset = clock_offset(rows, {each: found.sent_at for each, found in owned.items()})
        if offset < -CLOCK_TOLERANCE and not is_whole:
            # the history's times are behind ours: rows may be further back than their times say
            return await self._read(since + offset, asked_at, is_whole=True)
        names = Names.learnt(self._slugs, rows, {each: found.model_slug for each, found in owned.items()})
        listed = Counter(row.request_id for row in rows)
        ambiguous = frozenset(each for each, times in listed.items() if times > 1)
        free = [row for row in rows if row.request_id not in owned or row.request_id in ambiguous]
        # a page also has rows from before that time: they have to be accounted for, too
        earliest = min((row.created_at for row in free if row.created_at is not None), default=since)
        unaccounted = await asyncio.to_thread(
            self._ledger.read, reads.unaccounted, since=min(since, earliest - offset - CLOCK_TOLERANCE)
        )
        sent = [_shifted(each, offset) for each in (*rivals, *(each.submission for each in unaccounted))]
        recent = [row for row in rows if row.created_at is None or row.created_at >= since + offset]
        distinct = [row for row in recent if row.request_id not in owned and row.request_id not in ambiguous]
        return _View(
            rows=rows,
            free=free,
            names=names,
            rivals=rivals,
            offset=offset,
            ambiguous=ambiguous,
            accepted=accepted,
            unaccounted=unaccounted,
            is_shared=await asyncio.to_thread(shows_another_buyer, recent, distinct, sent, names),
            recent=frozenset(row.request_id for row in recent),
        )

    async def _judge(self, waiting: Sequence[_Waiting], view: _View, reading: Reading) -> None:
        waiting = [each for each in waiting if each in self._waiting]
        keys = {each.submission.key for each in waiting}
        free = [row for row in view.free if row.request_id not in self._assigned]
        submissions = [_shifted(each.submission, view.offset) for each in waiting]
        rivals = [_shifted(each, view.offset) for each in view.rivals if each.key not in keys]
        refused = {each.submission.key for each in waiting if not each.wants_proof}

        def admits(row: HistoryRow, submission: Submission) -> Likeness:
            if row.request_id in view.ambiguous:
                return Likeness.ALTERED
            # a request listed as failed is the error answer itself
            return Likeness.OTHER if row.is_failed and submission.key in refused else Likeness.EXACT

        matches = await asyncio.to_thread(match, submissions, free, names=view.names, rivals=rivals, admits=admits)
        # a failed job of the same content explains the error of one submission
        failed = [row for row in free if row.is_failed and row.request_id in view.recent]
        retried = [each for each in submissions if each.key in refused]
        failures = await asyncio.to_thread(match, retried, failed, names=view.names)
        others = view.recent - {row.request_id for row in matches.found.values()} - self._assigned
        # another buyer on this account may have bought this as well
        has_others = any(row.request_id in others and not row.is_failed for row in free)
        for each in waiting:
            each.readings += 1
            row = matches.found.get(each.submission.key)
            if row is not None and not view.is_shared:
                waited_s = self._clock.monotonic() - each.since_s
                has_settled = waited_s >= self._settling_time.total_seconds()
                if not has_others or has_settled:
                    self._assigned.add(row.request_id)
                    self._finish([each], Found(row.request_id))
                continue
            is_doubted = row is not None or each.submission.key in matches.doubts
            if each.wants_proof:
                fate = self._fate_of_missing(each, is_doubted=is_doubted)
            elif each.goes_on is None:
                fate = self._fate_of_refused(each, reading)
            else:
                failure = failures.found.get(each.submission.key)
                fate = self._fate_before_retry(
                    each, reading, each.goes_on, is_doubted=is_doubted, is_listed_as_failed=failure is not None
                )
                if fate == "absent" and failure is not None:
                    self._assigned.add(failure.request_id)
            if fate is not None:
                self._finish([each], fate)

    def _fate_of_missing(self, lost: _Waiting, *, is_doubted: bool) -> Fate | None:
        """The fate of a submission without a matching row; None while waiting may help."""
        waited_s = self._clock.monotonic() - lost.since_s
        is_sync = lost.model.api_version == "v1"
        job_s = self._over_s(lost.model)
        judged = judge_absence(
            lost.submission,
            [each for each in self._readings if each.asked_s >= lost.since_s],
            waited_s=waited_s,
            settling_time=self._settling_time,
            # a v1 call may last as long as its job, and is listed after that
            job_s=job_s if is_sync or not self._has_shown_unfinished else 0.0,
            is_doubted=is_doubted,
        )
        if judged == "absent":
            return "absent"
        # a collecting run waits for jobs that may still run; where a row leaves doubt, waiting would not help
        waits_for_job = not is_doubted and (is_sync or self._stays_open > RUN_STAYS_OPEN)
        open_s = self._stays_open * self._settling_time.total_seconds() + (job_s if waits_for_job else 0.0)
        return "unresolved" if waited_s >= open_s and lost.readings >= _LEAST_READINGS else None

    def _fate_of_refused(self, refused: _Waiting, reading: Reading) -> Fate | None:
        """The fate of an error answer without a matching row; None while another reading may add something.

        A reading that misses requests accepted before the submission is late, and proves nothing.
        """
        if reading.asked_s >= refused.since_s and reading.lists_all_before(refused.submission):
            return "absent"
        waited_s = self._clock.monotonic() - refused.since_s
        is_over = waited_s >= self._settling_time.total_seconds() and refused.readings >= _LEAST_READINGS
        return "unresolved" if is_over else None

    def _fate_before_retry(
        self,
        refused: _Waiting,
        reading: Reading,
        goes_on: Callable[[], bool],
        *,
        is_doubted: bool,
        is_listed_as_failed: bool,
    ) -> Fate | None:
        """The same before a retry: nothing is sent again before the history has come that far."""
        if reading.asked_s < refused.since_s:
            return None
        waited_s = self._clock.monotonic() - refused.since_s
        job_s = 0.0 if self._has_shown_unfinished else self._likely_over_s(refused.model)
        if not is_doubted and shows_refusal(
            refused.submission,
            reading,
            waited_s=waited_s,
            settling_time=self._settling_time,
            job_s=job_s,
            is_listed_as_failed=is_listed_as_failed,
            finds_out=self._finds_out in {None, refused.submission.key},
        ):
            if not reading.accepted:
                self._finds_out = refused.submission.key
            return "absent"
        open_s = self._stays_open * self._settling_time.total_seconds() + job_s
        return None if goes_on() and waited_s < open_s else "unresolved"

    async def _charge_late(self, view: _View) -> None:
        """Record submissions that counted as never accepted and are listed now."""
        if not view.unaccounted or view.is_shared:
            return
        # a row that may belong to a pending submission is left to that one
        free = [
            row
            for row in view.free
            if row.request_id not in self._assigned | view.ambiguous
            and not row.is_failed
            and not any(compare(row, rival, view.names) >= Likeness.ALTERED for rival in view.rivals)
        ]
        # of two equal submissions, the one that still needs an output gets the row
        unaccounted = sorted(view.unaccounted, key=lambda each: (not each.is_unpaid, -each.attempt))
        submissions = [_shifted(each.submission, view.offset) for each in unaccounted]
        matches = await asyncio.to_thread(match, submissions, free, names=view.names)
        for each in unaccounted:
            row = matches.found.get(each.submission.key)
            if row is None:
                continue
            state = await self._ledger.awrite(
                writes.charge_late,
                each.generation_id,
                each.attempt,
                request_id=row.request_id,
                created_at=row.created_at,
                cost_usd=row.cost_usd,
                now=self._clock.now(),
            )
            if state is not None:
                self._assigned.add(row.request_id)

    def _finish(self, waiting: Sequence[_Waiting], fate: Fate) -> None:
        for each in waiting:
            self._waiting.remove(each)
            if not each.fate.done():
                each.fate.set_result(fate)


def _shifted(submission: Submission, offset: timedelta) -> Submission:
    """A submission with its time on the history's clock."""
    if not offset or submission.sent_at is None:
        return submission
    return Submission(
        key=submission.key,
        model_slug=submission.model_slug,
        body=submission.body,
        sent_at=submission.sent_at + offset,
    )
