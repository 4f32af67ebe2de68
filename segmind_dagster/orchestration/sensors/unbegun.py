"""Runs that died before they recorded anything: their process never started, or died at once.

The ledger knows nothing of what they were for; only Dagster's records do. A run whose own code failed has said why, and
is none of these. Reads the instance only; when another run follows is decided in `lifecycle.next_step`.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import dagster as dg

from segmind_dagster.orchestration.asset_partitions import (
    AssetPartition,
    FailedRuns,
    end_of,
    partition_keys,
    partitions_of,
)
from segmind_dagster.orchestration.loads import latest_materializations
from segmind_dagster.orchestration.translator import MODEL_KEYS

# six runs, each after twice the pause of the one before, are through by then
_LOOK_BACK: Final = timedelta(days=2)
_MOST: Final = 100


def unbegun(
    instance: dg.DagsterInstance, *, is_known: Callable[[AssetPartition], bool], now: datetime
) -> dict[AssetPartition, FailedRuns]:
    """The asset partitions whose latest failed runs recorded nothing.

    Args:
        instance: where runs are recorded.
        is_known: whether the ledger knows what a partition asks for, so that it is handled from there.
        now: the time.
    """
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], created_after=now - _LOOK_BACK)
    keys = partition_keys(instance)
    found: dict[AssetPartition, FailedRuns] = {}
    explained: set[AssetPartition] = set()
    # latest first
    for record in instance.get_run_records(failed, limit=_MOST):
        run = record.dagster_run
        partitions = {
            partition
            for partition in partitions_of(run, keys) - explained
            if partition[1] in MODEL_KEYS and partition[0] in keys and (partition in found or not is_known(partition))
        }
        if partitions and _has_said_why(instance, run.run_id):
            explained |= partitions
            continue
        for partition in partitions:
            last = found.get(partition)
            found[partition] = replace(last, runs=last.runs + 1) if last else FailedRuns(run.run_id, 1, end_of(record))
    return {partition: last for partition, last in found.items() if not _is_made_since(instance, partition, last)}


def _has_said_why(instance: dg.DagsterInstance, run_id: str) -> bool:
    return bool(instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records)


def _is_made_since(instance: dg.DagsterInstance, partition: AssetPartition, last: FailedRuns) -> bool:
    key, asset = partition
    return last.is_followed_by(latest_materializations(instance, asset, [key]).get(key))
