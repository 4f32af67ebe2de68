"""What Dagster has recorded of asset checks, as its UI reads it: by partition, and whether it is about the latest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from lab.dagster_project import asset_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.dagster_project import DagsterLab

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Recorded:
    """The latest result of one check on one partition."""

    status: str
    severity: str
    said: str
    figures: Mapping[str, Any]
    run_id: str
    is_current: bool

    @property
    def sample(self) -> list[dict[str, Any]]:
        return [dict(record.data) for record in self.figures["sample"].records]


def recorded(lab: DagsterLab, asset: str, check: str, partition: str | None = None) -> Recorded:
    """The latest result of a check on a partition (None: on none)."""
    key = dg.AssetCheckKey(asset_key(asset), check)
    executions = lab.instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    execution = next(each for each in executions if each.partition == partition)
    if execution.evaluation is None or execution.status.value == "PLANNED":
        return Recorded("PLANNED", "", "", {}, execution.run_id, is_current=False)
    infos = lab.instance.event_log_storage.get_asset_check_partition_info([key])
    evaluation = execution.evaluation
    return Recorded(
        status=execution.status.value,
        severity=evaluation.severity.value,
        said=evaluation.description or "",
        figures={name: value.value for name, value in evaluation.metadata.items()},
        run_id=execution.run_id,
        is_current=partition is None or next(info.is_current for info in infos if info.partition_key == partition),
    )


def run_checks(lab: DagsterLab, *checks: tuple[str, str], partition: str | None = None) -> bool:
    """A run of these checks alone (asset, check), as the button in the UI starts it; whether it succeeded."""
    keys = [dg.AssetCheckKey(asset_key(asset), check) for asset, check in checks]
    job = dg.define_asset_job("checks", dg.AssetSelection.checks(*keys))
    with_job = dg.Definitions.merge(lab.definitions, dg.Definitions(jobs=[job]))
    result = with_job.resolve_job_def("checks").execute_in_process(
        instance=lab.instance,
        tags={"dagster/partition": partition} if partition else None,
        run_config=_QUIET,
        raise_on_error=False,
    )
    return result.success
