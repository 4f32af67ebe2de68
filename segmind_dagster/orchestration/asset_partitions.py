"""What a run is about, read from its tags: prompt sets and models, and what a sensor asked it to do.

An asset partition is a prompt set and the key of an asset; a run of one partition has one set, a run over a range all
from its first to its last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from segmind_dagster.orchestration.partitions import prompt_sets
from segmind_dagster.orchestration.translator import MODEL_KEYS, PROMPT_SET_KEY

# on every run that a sensor asks for: which sensor, so that the run does not count as a person's
REQUESTED_BY: Final = "segmind/requested_by"
# what it was asked to do, as a digest, so that the next tick finds out what came of it
WORK: Final = "segmind/work"
ATTEMPT: Final = "segmind/attempt"

AssetPartition = tuple[str, dg.AssetKey]

PARTITION: Final = "dagster/partition"
RANGE: Final = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@dataclass(frozen=True, slots=True)
class FailedRuns:
    """Runs of an asset partition, one after the other, that ended before it was done.

    Args:
        run_id: the last one.
        runs: how many.
        ended_at: when the last one ended.
    """

    run_id: str
    runs: int
    ended_at: datetime

    def is_followed_by(self, materialized: dg.EventLogRecord | None) -> bool:
        """Whether the latest materialization of the asset partition came after them."""
        return materialized is not None and materialized.timestamp > self.ended_at.timestamp()


def end_of(record: dg.RunRecord) -> datetime:
    """When a run ended; when it was made, if its end was not seen."""
    return datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.create_timestamp.astimezone(UTC)


def partition_keys(instance: dg.DagsterInstance) -> list[str]:
    """The prompt sets that are partitions, in Dagster's order."""
    return list(instance.get_dynamic_partitions(prompt_sets.name or ""))


def partitions_of(run: dg.DagsterRun, keys: Sequence[str]) -> set[AssetPartition]:
    """The asset partitions that a run is about, of all keys in order; none when it is not about prompt sets."""
    first, last = (run.tags.get(tag) for tag in RANGE)
    if run.tags.get(PARTITION) is not None:
        sets = [run.tags[PARTITION]]
    elif first in keys and last in keys:
        sets = list(keys[keys.index(first) : keys.index(last) + 1])
    else:
        # the ends of a range whose partition was removed meanwhile are still about themselves
        sets = [key for key in (first, last) if key is not None]
    assets = run.asset_selection or {*MODEL_KEYS, PROMPT_SET_KEY}
    return {(key, asset) for key in sets for asset in assets}
