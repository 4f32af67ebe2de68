"""Check outcomes as the results that Dagster records, each on the partition it is about."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import dagster as dg

# without it the UI takes a result for one of an older materialization; Dagster does not export it
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from segmind_dagster.checks.outcomes import CheckOutcome, as_plain, combined
from segmind_dagster.orchestration.loads import latest_materializations
from segmind_dagster.orchestration.partitions import prompt_sets

# for what time alone can turn red; after the account's schedule had its turn
EVERY_MORNING: Final = cast(
    "dg.AutomationCondition[dg.AssetCheckKey]",
    dg.AutomationCondition.cron_tick_passed("0 6 * * *", cron_timezone="UTC"),
)
_SEVERITIES: Final = {
    "passed": dg.AssetCheckSeverity.ERROR,
    "warning": dg.AssetCheckSeverity.WARN,
    "error": dg.AssetCheckSeverity.ERROR,
}


def partitioned_spec(name: str, *, asset: dg.AssetKey, description: str) -> dg.AssetCheckSpec:
    """A check with a result for each prompt set."""
    return dg.AssetCheckSpec(name, asset=asset, description=description, partitions_def=prompt_sets)


def expect_evaluations(context: dg.AssetCheckExecutionContext) -> None:
    """Keep Dagster from logging that a step forgot its outputs.

    It counts an `AssetCheckResult` as one, and not the evaluations that stand for it here; see `partitioned`.
    """
    context.log.addFilter(_is_no_complaint)


def _is_no_complaint(record: logging.LogRecord) -> bool:
    return "did not yield or return expected outputs" not in record.getMessage()


def checked_sets(context: dg.AssetCheckExecutionContext) -> list[str]:
    """The prompt sets of a run; every one when it is for none in particular."""
    # not `context.partition_keys`: a run of checks alone has no asset that could tell how it is partitioned
    if context.has_partition_key:
        return [context.partition_key]
    keys = list(context.instance.get_dynamic_partitions(prompt_sets.name or ""))
    if context.has_partition_key_range:
        first, last = context.partition_key_range
        return keys[keys.index(first) : keys.index(last) + 1]
    return keys


def partitioned(
    instance: dg.DagsterInstance, found: Mapping[dg.AssetCheckKey, Mapping[str, CheckOutcome]]
) -> Iterator[dg.AssetCheckEvaluation]:
    """A result for each prompt set; of several, also one that names those that do not pass.

    An `AssetCheckResult` would take its partition from the run, which may have many, and cost a second event.

    Args:
        instance: where materializations are recorded.
        found: by check and prompt set.
    """
    targets: dict[dg.AssetKey, Mapping[str, dg.EventLogRecord]] = {}
    for check, of_sets in found.items():
        if check.asset_key not in targets:
            targets[check.asset_key] = latest_materializations(instance, check.asset_key, of_sets)
        for key, outcome in of_sets.items():
            yield _evaluation(check, outcome, partition=key, target=targets[check.asset_key].get(key))
        if len(of_sets) > 1:
            yield _evaluation(check, combined(of_sets))


def whole(found: Mapping[dg.AssetCheckKey, CheckOutcome]) -> Iterator[dg.AssetCheckEvaluation]:
    """A result for each check that is not partitioned."""
    for check, outcome in found.items():
        yield _evaluation(check, outcome)


def figures(outcome: CheckOutcome) -> dict[str, Any]:
    """The figures of an outcome as metadata."""
    return {name: as_plain(value) for name, value in outcome.figures.items()}


def _evaluation(
    check: dg.AssetCheckKey,
    outcome: CheckOutcome,
    *,
    partition: str | None = None,
    target: dg.EventLogRecord | None = None,
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=check.asset_key,
        check_name=check.name,
        partition=partition,
        target_materialization_data=target
        and AssetCheckEvaluationTargetMaterializationData(
            storage_id=target.storage_id, run_id=target.run_id, timestamp=target.timestamp
        ),
        blocking=False,
        **_shown(outcome),
    )


def _shown(outcome: CheckOutcome) -> dict[str, Any]:
    sample = [dg.TableRecord(dict(row)) for row in outcome.sample]
    return {
        "passed": outcome.verdict == "passed",
        "severity": _SEVERITIES[outcome.verdict],
        "description": outcome.description,
        "metadata": {
            **figures(outcome),
            **({"sample": dg.MetadataValue.table(records=sample)} if sample else {}),
        },
    }
