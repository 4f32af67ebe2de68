"""Whether what a run generated was loaded, by Dagster's own records.

A run records in a tag that its load is pending once everything is generated, and afterwards that it is done; another
tag lists partitions that it loads without having been started for them. A run that ends in between leaves the tags as
they are; a later materialization of the same partition proves that another run has loaded the rows. The ledger does
not know this: what it holds can always be loaded again.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import dagster as dg

from segmind_dagster.ledger import Ledger, sensor_reads
from segmind_dagster.orchestration.asset_partitions import (
    ATTEMPT,
    AssetPartition,
    FailedRuns,
    end_of,
    partition_keys,
    partitions_of,
)
from segmind_dagster.orchestration.translator import MODEL_KEY_OF, MODEL_KEYS

LOAD: Final = "segmind/load"
ALSO_LOADS: Final = "segmind/also_loads"
_PENDING: Final = "due"
_DONE: Final = "done"
_LOOK_BACK: Final = 500


@contextmanager
def recorded_load(
    instance: dg.DagsterInstance, run_id: str, *, also: Collection[AssetPartition] = ()
) -> Iterator[None]:
    """Record that the load of this run is pending, and that it is done once the block ends without an error.

    Args:
        instance: where the run is recorded.
        run_id: the run.
        also: what it loads beside the partitions it was started for.
    """
    names = " ".join(sorted(f"{key}/{asset.path[-1]}" for key, asset in also))
    instance.add_run_tags(run_id, {LOAD: _PENDING, **({ALSO_LOADS: names} if names else {})})
    yield
    instance.add_run_tags(run_id, {LOAD: _DONE})


def unloaded(instance: dg.DagsterInstance, *, at_work: Collection[str] = ()) -> dict[AssetPartition, FailedRuns]:
    """The asset partitions with generated rows that no run has loaded since.

    Args:
        instance: where runs and materializations are recorded.
        at_work: runs that may still load.
    """
    records = instance.get_run_records(dg.RunsFilter(tags={LOAD: _PENDING}), limit=_LOOK_BACK)
    keys = partition_keys(instance)
    found: dict[AssetPartition, FailedRuns] = {}
    # latest first
    for record in records:
        run = record.dagster_run
        if run.run_id not in at_work:
            tried = FailedRuns(run.run_id, int(run.tags.get(ATTEMPT, "1")), end_of(record))
            for partition in _loaded_by(run, keys):
                found.setdefault(partition, tried)
    since = {
        asset: latest_materializations(instance, asset, [key for key, of_asset in found if of_asset == asset])
        for asset in {asset for _, asset in found}
    }
    return {
        partition: tried
        for partition, tried in found.items()
        if not tried.is_followed_by(since[partition[1]].get(partition[0]))
    }


def recorded_partitions(ledger: Ledger, prompt_sets: Iterable[str]) -> list[AssetPartition]:
    """The models that prompt sets ask for something of, as far as the ledger knows the sets and Dagster the models."""
    return [
        (key, MODEL_KEY_OF[resource])
        for key in prompt_sets
        for resource in ledger.read(sensor_reads.standing, key)
        if resource in MODEL_KEY_OF
    ]


def latest_materializations(
    instance: dg.DagsterInstance, asset: dg.AssetKey, keys: Iterable[str]
) -> Mapping[str, dg.EventLogRecord]:
    """The latest materialization of each of these partitions that has one.

    After a run they are the newest records of the asset, so that one look finds them all.
    """
    found: dict[str, dg.EventLogRecord] = {}
    missing = set(keys)
    while missing:
        wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=sorted(missing))
        records = instance.fetch_materializations(wanted, limit=len(missing)).records
        if not records:
            break
        for record in records:
            if record.partition_key is not None:
                found.setdefault(record.partition_key, record)
        missing -= found.keys()
    return found


def _loaded_by(run: dg.DagsterRun, keys: Sequence[str]) -> set[AssetPartition]:
    also = (name.split("/") for name in run.tags.get(ALSO_LOADS, "").split())
    # a model may have left the registry since
    others = {(key, MODEL_KEY_OF[resource]) for key, resource in also if resource in MODEL_KEY_OF}
    return others | {partition for partition in partitions_of(run, keys) if partition[1] in MODEL_KEYS}
