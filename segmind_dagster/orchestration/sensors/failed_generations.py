"""The sensor that retries prompt sets with unpaid failures, or with work that a run left unfinished.

Unfinished is also what was stored but not loaded, see `orchestration.loads`, and everything that a run was for that
died before it began, see `unbegun`. The sensor reads the ledger, Dagster's records and the prompt files that it may
run, never the network. When to retry is decided in `lifecycle.next_step`, what may be bought in `planning.plan`;
permanent failures and those that enough runs have tried are left to the asset checks.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Final

import dagster as dg

from segmind_dagster.errors import PromptSetError, SegmindDagsterError
from segmind_dagster.ledger import Ledger, reads, sensor_reads
from segmind_dagster.ledger.leases import RecordedLease
from segmind_dagster.ledger.sensor_reads import OpenWork
from segmind_dagster.lifecycle.failures import PAID_KINDS
from segmind_dagster.lifecycle.next_step import MOST_RUNS, RETRYABLE, UNCOUNTED, next_run
from segmind_dagster.lifecycle.states import State
from segmind_dagster.orchestration.asset_partitions import (
    ATTEMPT,
    REQUESTED_BY,
    WORK,
    AssetPartition,
    FailedRuns,
    partition_keys,
)
from segmind_dagster.orchestration.loads import unloaded
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.sensors.activity import (
    Activity,
    activity,
    past_runs,
    stopped_partitions,
    unfinished_runs,
)
from segmind_dagster.orchestration.sensors.budget import cheapest_usd, to_buy, why_refused
from segmind_dagster.orchestration.sensors.ledger_at_tick import ledger_at_tick, shown
from segmind_dagster.orchestration.sensors.unbegun import unbegun
from segmind_dagster.orchestration.translator import MODEL_KEY_OF, MODEL_KEYS
from segmind_dagster.planning import Plan
from segmind_dagster.registry import find_model
from segmind_dagster.settings import Settings

NAME = "failed_generations"
# reading a prompt file takes a while, and so does starting a run: the others have their turn at the next tick
_SETS_A_TICK = 20
# sentences in the reason of one tick
_NOTES = 10
# of work that is about loading alone
_STORED: Final[State] = "succeeded"


def build_failed_generations(*, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> dg.SensorDefinition:
    """The sensor `failed_generations`."""

    @dg.sensor(
        name=NAME,
        description="Runs prompt sets again that have failed or unfinished generations: after "
        "SEGMIND_RETRY_AFTER_SECONDS (300), then after twice as long each time, at most six times, within the budgets, "
        "and only the models concerned. Sets whose load failed are loaded again in the same way, and "
        "those whose run died before it began are run.",
        target=dg.AssetSelection.assets(*MODEL_KEYS),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=60,
    )
    def failed_generations(
        context: dg.SensorEvaluationContext, segmind: SegmindResource
    ) -> dg.SensorResult | dg.SkipReason:
        """Request a run of each prompt set that may be retried now."""
        try:
            settings = segmind.load()
            with ledger_at_tick(settings) as ledger:
                if ledger is None:
                    return dg.SkipReason("Nothing has been generated yet.")
                tick = _Tick(context.instance, settings, ledger, clock())
                requests = tick.requests(after=context.cursor)
        except SegmindDagsterError as error:
            return dg.SkipReason(str(error))
        context.update_cursor(tick.looked_at[-1] if tick.looked_at else "")
        said = " ".join(tick.notes[:_NOTES]) + (f" And {more} more." if (more := len(tick.notes) - _NOTES) > 0 else "")
        if not requests:
            return dg.SkipReason(said or "Nothing is left to do.")
        if said:
            context.log.info(said)
        return dg.SensorResult(run_requests=requests)

    return failed_generations


failed_generations = build_failed_generations()


@dataclass(slots=True)
class _Tick:
    """One look at everything that is open.

    Args:
        instance: Dagster's records.
        settings: caps, folders.
        ledger: what is open.
        now: the time.
        notes: what is not run and why, in sentences.
        looked_at: the prompt sets that had their turn.
    """

    instance: dg.DagsterInstance
    settings: Settings
    ledger: Ledger
    now: datetime
    notes: list[str] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)

    @property
    def _first_pause(self) -> timedelta:
        return timedelta(seconds=self.settings.retry_after_seconds)

    def requests(self, *, after: str | None) -> list[dg.RunRequest]:
        """The runs to ask for, one a prompt set at most.

        Args:
            after: the prompt set that had its turn last; those that follow it come first.
        """
        runs = unfinished_runs(self.instance)
        leases = self.ledger.read(sensor_reads.leases, now=self.now, run_ids={run.run_id for run in runs})
        active = activity(self.instance, runs, leases, now=self.now)
        work = self.ledger.read(sensor_reads.open_work, failed_kinds=RETRYABLE, uncounted_kinds=UNCOUNTED)
        waiting = self._free(self._ready([*work, *self._not_loaded(work, active)]), active, leases)
        anew = self._never_began(active)
        if not waiting and not anew:
            return []
        if self.settings.api_key is None:
            ready_sets = waiting.keys() | {request.partition_key for request in anew}
            self.notes.append(f"{len(ready_sets)} prompt sets could run, but no API key is set (SEGMIND_API_KEY).")
            return []
        order = sorted(waiting, key=lambda key: (key <= (after or ""), key))
        self.looked_at = order[:_SETS_A_TICK]
        if len(order) > _SETS_A_TICK:
            self.notes.append(f"{len(order) - _SETS_A_TICK} more prompt sets have their turn at the next tick.")
        requests = (self._request(key, waiting[key]) for key in self.looked_at)
        return [*anew, *(request for request in requests if request is not None)]

    def _never_began(self, active: Activity) -> list[dg.RunRequest]:
        """A run for each set whose run died before it had recorded anything; caps hold in that run itself."""
        is_reported = _KnownSets(self.settings, self.ledger)
        found = unbegun(self.instance, is_known=is_reported, now=self.now)
        found = {partition: last for partition, last in found.items() if partition not in active.partitions}
        stopped = stopped_partitions(self.instance, found.keys())
        by_set: defaultdict[str, dict[dg.AssetKey, FailedRuns]] = defaultdict(dict)
        for (key, asset), last in found.items():
            if (key, asset) not in stopped:
                by_set[key][asset] = last
        return [request for key, of_set in sorted(by_set.items()) if (request := self._anew(key, of_set)) is not None]

    def _anew(self, key: str, of_set: Mapping[dg.AssetKey, FailedRuns]) -> dg.RunRequest | None:
        last = max(of_set.values(), key=lambda each: each.ended_at)
        died = f"'{key}': run {last.run_id[:8]} died before it began"
        at = next_run(last.runs, last.ended_at, first=self._first_pause)
        if at is None:
            self.notes.append(f"{died}, as {last.runs - 1} had before it; see why, then materialize it by hand.")
            return None
        if at > self.now:
            self.notes.append(f"{died}; the next retry is at {at:%Y-%m-%d %H:%M:%S} UTC.")
            return None
        return dg.RunRequest(
            run_key=f"{key[:80]}/{last.run_id[:16]}/{last.runs + 1}",
            partition_key=key,
            asset_selection=sorted(of_set),
            tags={REQUESTED_BY: NAME, ATTEMPT: str(last.runs + 1)},
        )

    def _ready(self, work: Sequence[OpenWork]) -> dict[str, list[OpenWork]]:
        """What may be retried now, by prompt set."""
        found: dict[str, list[OpenWork]] = {}
        later: list[datetime] = []
        given_up = 0
        for each in work:
            if each.resource not in MODEL_KEY_OF:  # its registry entry was removed
                continue
            at = next_run(each.runs, each.last_at, first=self._first_pause)
            if at is None and each.state == _STORED:
                self.notes.append(
                    f"{each.runs} runs could not load '{each.prompt_set}' / {each.resource}, which is stored: see what "
                    "they say, then materialize it."
                )
            elif at is None:
                given_up += each.generations
            elif at > self.now:
                later.append(at)
            else:
                found.setdefault(each.prompt_set, []).append(each)
        if later:
            self.notes.append(f"The next retry is at {min(later):%Y-%m-%d %H:%M:%S} UTC.")
        if given_up:
            self.notes.append(f"{given_up} generations failed in enough runs; the asset checks name them.")
        return found

    def _not_loaded(self, work: Sequence[OpenWork], active: Activity) -> list[OpenWork]:
        """What is stored and not loaded; what is still to be bought is loaded by its own run."""
        is_open = {(each.prompt_set, each.resource) for each in work if each.runs < MOST_RUNS}
        found: list[OpenWork] = []
        standings: dict[str, Mapping[str, Counter[State]]] = {}
        for (key, asset), tried in unloaded(self.instance, at_work=active.run_ids).items():
            if (key, asset.path[-1]) in is_open:
                continue
            if key not in standings:
                standings[key] = self.ledger.read(sensor_reads.standing, key)
            if stored := standings[key].get(asset.path[-1], Counter())[_STORED]:
                self.notes.append(f"Stored but not loaded by run {tried.run_id[:8]}: '{key}' / {asset.path[-1]}.")
                found.append(
                    OpenWork(
                        prompt_set=key,
                        resource=asset.path[-1],
                        state=_STORED,
                        failure_kind=None,
                        runs=tried.runs,
                        generations=stored,
                        last_at=tried.ended_at,
                    )
                )
        return found

    def _free(
        self, found: dict[str, list[OpenWork]], active: Activity, leases: Sequence[RecordedLease]
    ) -> dict[str, list[OpenWork]]:
        """What no run owns, no person has stopped, and Dagster has a partition for."""
        is_alive = self.ledger.liveness()
        is_a_stranger_at_work = any(lease.run_id not in active.run_ids and is_alive(lease.owner) for lease in leases)
        exists = set(partition_keys(self.instance))
        gone = sorted(set(found) - exists)
        if gone:
            self.notes.append(f"No prompt file any more: {shown(gone)}.")
        found = {key: work for key, work in found.items() if key in exists}
        if is_a_stranger_at_work:
            # a script plans everything before it claims anything: what is only planned may be just about to be bought
            found = {key: [each for each in work if each.state != "planned"] for key, work in found.items()}
            self.notes.append("A script or the job `collect` is at work; what nobody has begun waits for its end.")
        found = self._not_in_flight(found, active)
        stopped = stopped_partitions(
            self.instance, {_asset_partition(each) for work in found.values() for each in work}
        )
        if stopped:
            names = sorted({key for key, _ in stopped})
            self.notes.append(f"Stopped by somebody, to be materialized by hand: {shown(names)}.")
        return self._of_models_that_deliver(_without(found, stopped))

    def _of_models_that_deliver(self, found: dict[str, list[OpenWork]]) -> dict[str, list[OpenWork]]:
        """Without what a run of a sensor would not buy: its model took money for what cannot be used."""
        from segmind_dagster.runner.breaker import SCOUTS

        slugs = {each.resource: find_model(each.resource).slug for work in found.values() for each in work}
        known = self.ledger.read(reads.deliveries, sorted(set(slugs.values())), bad_kinds=PAID_KINDS)
        stopped = {
            resource
            for resource, slug in slugs.items()
            if known[slug].bad_lately >= SCOUTS  # as `CircuitBreaker.at_start` has it
        }
        if stopped:
            self.notes.append(
                f"Stopped after outputs that were paid for and cannot be used: {shown(sorted(stopped))}. See "
                "`segmind-dagster status`; a person who materializes a set sends three more."
            )
        found = {
            key: [each for each in work if each.state == _STORED or each.resource not in stopped]
            for key, work in found.items()
        }
        return {key: work for key, work in found.items() if work}

    def _not_in_flight(self, found: dict[str, list[OpenWork]], active: Activity) -> dict[str, list[OpenWork]]:
        busy = {
            _asset_partition(each): active.partitions[_asset_partition(each)]
            for work in found.values()
            for each in work
            if _asset_partition(each) in active.partitions
        }
        if busy:
            names = sorted({f"{key} (run {run_id[:8]})" for (key, _), run_id in busy.items()})
            self.notes.append(f"In flight already: {shown(names)}.")
        return _without(found, busy)

    def _request(self, key: str, work: list[OpenWork]) -> dg.RunRequest | None:
        resources = tuple(sorted({each.resource for each in work}))
        plans = self._plans(key, resources)
        if plans is None:
            return None
        bought = to_buy(plans)
        if not bought and not any(each.state == _STORED for each in work):
            self.notes.append(f"'{key}' asks for none of what failed any more.")
            return None
        poor = self._why_poor(cheapest_usd(plans), sorted({generation.model.slug for generation in bought}))
        digest = _digest(key, work, is_poor=poor is not None)
        before = past_runs(self.instance, digest)
        # a run that dies before it records anything leaves the ledger as it was: only Dagster knows that it tried
        at = self.now if before.last_at is None else next_run(before.runs, before.last_at, first=self._first_pause)
        if at is None or at > self.now:
            why = poor or (
                f"{before.runs} runs for '{key}' changed nothing, the last one at {before.last_at:%H:%M:%S} UTC."
            )
            then = "materialize it by hand" if at is None else f"the next retry is at {at:%Y-%m-%d %H:%M:%S} UTC"
            self.notes.append(f"{why} '{key}': {then}.")
            return None
        return dg.RunRequest(
            run_key=f"{key[:80]}/{digest}/{before.runs + 1}",
            partition_key=key,
            asset_selection=[MODEL_KEY_OF[resource] for resource in resources],
            tags={
                REQUESTED_BY: NAME,
                WORK: digest,
                ATTEMPT: str(max(before.runs, *(each.runs for each in work)) + 1),
            },
        )

    def _plans(self, key: str, resources: tuple[str, ...]) -> list[Plan] | None:
        """What a run would buy now; None, with the reason noted, when it would buy nothing."""
        from segmind_dagster.prompts import find_prompt_set
        from segmind_dagster.runner import Batch, plan_set

        try:
            found = find_prompt_set(key, prompts_dir=self.settings.prompts_dir, project_dir=self.settings.project_dir)
        except PromptSetError as error:
            self.notes.append(f"'{key}' cannot be read: {error.problems[0]}")
            return None
        asked = self.ledger.read(sensor_reads.asked_for, key)
        wanted = [generation for resource in resources for generation in found.generations_of(resource)]
        if any(generation.generation_id not in asked for generation in wanted):
            self.notes.append(f"'{key}' has changed since its last run; materialize it to buy what it asks for now.")
            return None
        plans = plan_set(self.ledger, self.settings, Batch(found, resources), is_by_person=False)
        refusal = why_refused(self.ledger, self.settings, plans, now=self.now)
        if refusal is not None:
            self.notes.append(refusal)
            return None
        return plans

    def _why_poor(self, needed_usd: Decimal, model_slugs: Sequence[str]) -> str | None:
        """What says that the account cannot pay, unless something says otherwise since."""
        last = self.ledger.read(sensor_reads.balance)
        if last is None or last.balance_usd >= needed_usd:
            return None
        delivered_at = self.ledger.read(sensor_reads.last_success, model_slugs)
        if delivered_at is not None and delivered_at > last.observed_at:
            return None
        return f"The account held ${last.balance_usd:.4f} at {last.observed_at:%Y-%m-%d %H:%M:%S} UTC; top it up."


@dataclass(slots=True)
class _KnownSets:
    """Whether the ledger knows an asset partition, or there is nothing to know."""

    settings: Settings
    ledger: Ledger
    _unknown: dict[str, frozenset[str]] = field(default_factory=dict)

    def __call__(self, partition: AssetPartition) -> bool:
        key, asset = partition
        if key not in self._unknown:
            self._unknown[key] = self._unknown_models(key)
        return asset.path[-1] not in self._unknown[key]

    def _unknown_models(self, key: str) -> frozenset[str]:
        """The models that a prompt file is aimed at and that the ledger has never heard of together with it."""
        from segmind_dagster.prompts import find_prompt_set

        try:
            found = find_prompt_set(key, prompts_dir=self.settings.prompts_dir, project_dir=self.settings.project_dir)
        except PromptSetError:  # `prompt_files` says what is wrong with it
            return frozenset()
        return frozenset(model.resource for model in found.models) - self.ledger.read(sensor_reads.standing, key).keys()


def _asset_partition(work: OpenWork) -> tuple[str, dg.AssetKey]:
    return work.prompt_set, MODEL_KEY_OF[work.resource]


def _without(
    found: dict[str, list[OpenWork]], partitions: "dict[tuple[str, dg.AssetKey], str] | set[tuple[str, dg.AssetKey]]"
) -> dict[str, list[OpenWork]]:
    left = {key: [each for each in work if _asset_partition(each) not in partitions] for key, work in found.items()}
    return {key: work for key, work in left.items() if work}


def _digest(key: str, work: Sequence[OpenWork], *, is_poor: bool) -> str:
    """The same for the same open work, so that its runs can be counted; another one as soon as a run got anywhere."""
    recorded = [
        f"{each.resource} {each.state} {each.failure_kind} {each.runs} {each.generations} {each.last_at.isoformat()}"
        for each in work
    ]
    return sha256("\n".join([key, str(is_poor), *sorted(recorded)]).encode()).hexdigest()[:16]
