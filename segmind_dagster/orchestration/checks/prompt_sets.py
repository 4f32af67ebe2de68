"""The check of the prompt sets: whether a file can be used and is the one that was materialized."""

from collections.abc import Iterator
from typing import Final

import dagster as dg

from segmind_dagster.checks.outcomes import CheckOutcome, file_current
from segmind_dagster.data_folder import RunContext
from segmind_dagster.errors import PromptSetError
from segmind_dagster.orchestration.checks.results import (
    checked_sets,
    expect_evaluations,
    partitioned,
    partitioned_spec,
)
from segmind_dagster.orchestration.failures import as_failure
from segmind_dagster.orchestration.loads import latest_materializations
from segmind_dagster.orchestration.resources import SegmindRunResource
from segmind_dagster.orchestration.translator import PROMPT_SET_KEY

_FILE: Final = dg.AssetCheckKey(PROMPT_SET_KEY, "file_is_current")


@dg.multi_asset_check(
    name="prompt_set_checks",
    specs=[
        partitioned_spec(
            _FILE.name,
            asset=_FILE.asset_key,
            description="The prompt file can be used, and it is the one that was materialized last.",
        )
    ],
    can_subset=True,
)
def prompt_set_checks(
    context: dg.AssetCheckExecutionContext, segmind_run: SegmindRunResource
) -> Iterator[dg.AssetCheckEvaluation]:
    """The prompt files themselves."""
    expect_evaluations(context)
    with as_failure():
        run = segmind_run.context()
        found = {key: _look(context.instance, run, key) for key in checked_sets(context)}
    yield from partitioned(context.instance, {_FILE: found})


def prompt_file_evaluation(instance: dg.DagsterInstance, run: RunContext, key: str) -> dg.AssetCheckEvaluation:
    """The same for one prompt set, for a run that fails over its file and whose check step will be skipped.

    Not for `report_runless_asset_event`: of those, Dagster keeps one for each check and partition, and refuses more.
    """
    return next(partitioned(instance, {_FILE: {key: _look(instance, run, key)}}))


def _look(instance: dg.DagsterInstance, run: RunContext, key: str) -> CheckOutcome:
    digest = problem = None
    try:
        digest = run.prompt_set(key).digest
    except PromptSetError as error:
        problem = str(error)
    latest = latest_materializations(instance, PROMPT_SET_KEY, [key]).get(key)
    recorded = latest.asset_materialization if latest else None
    materialized = (recorded.tags or {}).get("dagster/data_version") if recorded else None
    return file_current(digest=digest, materialized=materialized, problem=problem)
