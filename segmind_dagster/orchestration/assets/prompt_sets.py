"""The `prompt_set` asset: a prompt file, read, validated and priced. Nothing is submitted here."""

from collections.abc import Iterator

import dagster as dg

from segmind_dagster.errors import PromptSetError
from segmind_dagster.orchestration.checks import prompt_file_evaluation
from segmind_dagster.orchestration.failures import as_failure
from segmind_dagster.orchestration.metadata import plan_metadata
from segmind_dagster.orchestration.partitions import prompt_sets
from segmind_dagster.orchestration.resources import SegmindRunResource
from segmind_dagster.orchestration.translator import OWNERS


@dg.asset(
    key="prompt_set",
    partitions_def=prompt_sets,
    group_name="prompts",
    kinds={"yaml"},
    owners=OWNERS,
    description="A prompt file: validated, expanded into generations and priced, before anything is bought.",
)
def prompt_set(
    context: dg.AssetExecutionContext, segmind_run: SegmindRunResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckEvaluation]:
    """Read, validate and price one prompt file."""
    from segmind_dagster.runner import Batch, plan_set

    with as_failure():
        run = segmind_run.context()
        settings = run.settings
        try:
            found = run.prompt_set(context.partition_key)
        except PromptSetError:
            # the check of this run will be skipped
            yield prompt_file_evaluation(context.instance, run, context.partition_key)
            raise
        batch = Batch(found, tuple(model.resource for model in found.models))
        ledger, _ = run.folder()
        plans = plan_set(ledger, settings, batch)
    for plan in plans:
        if plan.refusal:
            context.log.warning(plan.refusal)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(found.digest), metadata=plan_metadata(found, plans, settings)
    )
