"""Sensors: they read records and files, never the network, and start or prepare runs.

`prompt_files` follows the files, `failed_generations` runs again what failed unpaid, `paid_outputs` collects what was
paid for, `low_balance` warns. `activity` and `unbegun` read Dagster's records for them,
`ledger_at_tick` opens the ledger, `budget` says what a run could not buy.
"""

from segmind_dagster.orchestration.asset_partitions import REQUESTED_BY
from segmind_dagster.orchestration.sensors.failed_generations import build_failed_generations, failed_generations
from segmind_dagster.orchestration.sensors.low_balance import low_balance
from segmind_dagster.orchestration.sensors.paid_outputs import build_paid_outputs, collect_job, paid_outputs
from segmind_dagster.orchestration.sensors.prompt_files import partition_changes, prompt_files

__all__ = [
    "REQUESTED_BY",
    "build_failed_generations",
    "build_paid_outputs",
    "collect_job",
    "failed_generations",
    "low_balance",
    "paid_outputs",
    "partition_changes",
    "prompt_files",
]
