"""What Dagster's own records say: which prompt sets and models are being run, were stopped, were tried before.

Reads the instance only. What a run is about is read in `asset_partitions`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import dagster as dg

from segmind_dagster.ledger.leases import RecordedLease
from segmind_dagster.orchestration.asset_partitions import (
    PARTITION,
    RANGE,
    WORK,
    AssetPartition,
    end_of,
    partition_keys,
    partitions_of,
)

_STATUS = dg.DagsterRunStatus
_ACTIVE: Final = [
    _STATUS.QUEUED, _STATUS.NOT_STARTED, _STATUS.STARTING, _STATUS.STARTED, _STATUS.CANCELING,
]  # fmt: skip
# after its lease a run only loads, and waits at most half an hour for that: then it is gone without a word
_GONE_AFTER: Final = timedelta(hours=1)
_LOOK_BACK: Final = 50


@dataclass(frozen=True, slots=True)
class Activity:
    """The runs that are not finished.

    Args:
        run_ids: of all of them.
        partitions: which run is at each asset partition.
        jobs: which run is at each job.
    """

    run_ids: frozenset[str]
    partitions: Mapping[AssetPartition, str]
    jobs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PastRuns:
    """Runs that were asked to do one piece of work.

    Args:
        runs: how many.
        last_at: when the last one ended; None without any.
    """

    runs: int
    last_at: datetime | None


def unfinished_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The runs that Dagster counts as waiting or at work."""
    return list(instance.get_runs(dg.RunsFilter(statuses=_ACTIVE)))


def activity(
    instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun], leases: Collection[RecordedLease], *, now: datetime
) -> Activity:
    """What is in flight; a run whose lease ended long ago is gone, although Dagster does not know.

    Args:
        instance: which partitions exist, and in which order.
        runs: what Dagster counts as active.
        leases: of these runs, as far as the ledger has any.
        now: the time.
    """
    ended = {lease.run_id: lease.until for lease in sorted(leases, key=lambda lease: lease.until)}
    at_work = [
        run
        for run in runs
        if run.status != _STATUS.STARTED or run.run_id not in ended or ended[run.run_id] > now - _GONE_AFTER
    ]
    keys = partition_keys(instance)
    return Activity(
        run_ids=frozenset(run.run_id for run in at_work),
        partitions={partition: run.run_id for run in at_work for partition in partitions_of(run, keys)},
        jobs={run.job_name: run.run_id for run in at_work},
    )


def stopped_partitions(instance: dg.DagsterInstance, wanted: Collection[AssetPartition]) -> set[AssetPartition]:
    """The wanted partitions whose latest run was stopped by a person: only a person starts them again.

    Args:
        instance: where runs are recorded.
        wanted: partitions to look up, with one query for each of their prompt sets.
    """
    keys = partition_keys(instance)
    canceled = instance.get_run_records(dg.RunsFilter(statuses=[_STATUS.CANCELED]), limit=_LOOK_BACK)
    ranges = [record for record in canceled if RANGE[0] in record.dagster_run.tags]
    stopped: set[AssetPartition] = set()
    for prompt_set in {prompt_set for prompt_set, _ in wanted}:
        own = instance.get_run_records(dg.RunsFilter(tags={PARTITION: prompt_set}), limit=_LOOK_BACK)
        latest_first = sorted([*own, *ranges], key=lambda record: record.create_timestamp, reverse=True)
        for partition in [partition for partition in wanted if partition[0] == prompt_set]:
            latest = next((each for each in latest_first if partition in partitions_of(each.dagster_run, keys)), None)
            if latest is not None and latest.dagster_run.status == _STATUS.CANCELED:
                stopped.add(partition)
    return stopped


def past_runs(instance: dg.DagsterInstance, work: str) -> PastRuns:
    """The runs that were asked for this very work, found by its digest."""
    return _counted(instance.get_run_records(dg.RunsFilter(tags={WORK: work}), limit=_LOOK_BACK))


def failures_in_a_row(instance: dg.DagsterInstance, job_name: str) -> PastRuns:
    """The runs of a job that failed since it last succeeded."""
    records = instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=_LOOK_BACK)
    failed: list[dg.RunRecord] = []
    for record in records:
        if record.dagster_run.status == _STATUS.SUCCESS:
            break
        failed.append(record)
    return _counted(failed)


def _counted(records: Sequence[dg.RunRecord]) -> PastRuns:
    return PastRuns(len(records), max(map(end_of, records), default=None))
