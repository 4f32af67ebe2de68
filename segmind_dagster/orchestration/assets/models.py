"""The model assets: generate what prompt sets ask for, then load what the ledger holds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dlt import DagsterDltResource, dlt_assets

from segmind_dagster.data_folder import RunContext
from segmind_dagster.errors import PromptSetError, SegmindDagsterError, interrupted
from segmind_dagster.orchestration.asset_partitions import REQUESTED_BY, AssetPartition
from segmind_dagster.orchestration.checks import follow_up
from segmind_dagster.orchestration.failures import as_failure
from segmind_dagster.orchestration.loads import recorded_load, recorded_partitions
from segmind_dagster.orchestration.metadata import log_report, model_metadata, table_metadata
from segmind_dagster.orchestration.partitions import prompt_sets
from segmind_dagster.orchestration.resources import SegmindRunResource
from segmind_dagster.orchestration.translator import MODEL_KEY_OF, SegmindTranslator, column_schema
from segmind_dagster.registry import MODELS
from segmind_dagster.settings import Settings
from segmind_dagster.source import build_source, check_destination, load, segmind_source

if TYPE_CHECKING:
    from segmind_dagster.runner import Batch, Progress, RunReport

_NAMES = [model.resource for model in MODELS]


def build_model_assets(*, backfill_policy: dg.BackfillPolicy | None = None) -> dg.AssetsDefinition:
    """All model assets: one step, of which any part can be selected.

    Args:
        backfill_policy: how a backfill over many prompt sets becomes runs; one run a set by default.
    """

    @dlt_assets(
        name="segmind_models",
        dlt_source=segmind_source(generate=False).with_resources(*_NAMES),
        # a dlt pipeline makes folders when it is built: only a run may do that
        dlt_pipeline=None,  # type: ignore[arg-type]
        dagster_dlt_translator=SegmindTranslator(),
        partitions_def=prompt_sets,
        backfill_policy=backfill_policy,
    )
    def segmind_models(
        context: dg.AssetExecutionContext, dlt: DagsterDltResource, segmind_run: SegmindRunResource
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckEvaluation]:
        from segmind_dagster.runner import generate

        resources = tuple(name for name, key in MODEL_KEY_OF.items() if key in context.selected_asset_keys)
        with as_failure():
            run = segmind_run.context()
            settings = run.settings
            check_destination(settings)
            batches, problems = _read_sets(run, context.partition_keys, resources)
            with _noting_money(context.log) as say:
                report = generate(
                    settings,
                    batches,
                    run_id=context.run_id,
                    # a person who re-executes a sensor's run asks for it, although its tags are copied
                    is_by_person=REQUESTED_BY not in context.run.tags or context.run.parent_run_id is not None,
                    on_progress=say,
                    run=run,
                )
            log_report(context.log, report)
            keys = [batch.prompt_set.key for batch in batches]
            # with a resource for every model, so that a table exists even while it is empty
            source = build_source(
                settings,
                prompt_sets=[*keys, *sorted(report.also_collected)],
                models=None if report.also_collected else resources,
                run=run,
            ).with_resources(*_NAMES, "attempts")
            try:
                with recorded_load(context.instance, context.run_id, also=_also_loaded(run, report)):
                    info, pipeline = load(settings, source, purpose=f"run {context.run_id}", say=context.log.info)
            # whatever dlt or a driver raises: what was bought is stored, and the checks have to say so; raised again
            except Exception as error:
                yield from follow_up(context, run, resources, context.partition_keys, is_loaded=False)
                raise SegmindDagsterError(_not_loaded(error)) from error
        stop = "\n".join(filter(None, [report.stop_message, *map(str, problems), *_unfinished(report)]))
        _publish(context, settings, report, is_whole=not stop)
        if stop:
            yield from follow_up(context, run, resources, context.partition_keys, is_loaded=True)
            raise dg.Failure(description=stop, allow_retries=False)
        for resource in resources:
            loaded = dlt.extract_resource_metadata(context, source.resources[resource], info, pipeline)
            figures = _only(report, resource, settings)
            table = table_metadata(loaded, column_schema(resource))
            yield dg.MaterializeResult(asset_key=MODEL_KEY_OF[resource], metadata={**figures, **table})

    return segmind_models


@contextmanager
def _noting_money(log: dg.DagsterLogManager) -> "Iterator[Callable[[Progress], None]]":
    """Log the progress; an interrupt leaves with words about the money, which are the last line of its traceback."""
    line = "not begun"

    def say(progress: "Progress") -> None:
        nonlocal line
        line = progress.line()
        log.info(line)

    try:
        yield say
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError) as error:
        error.args = (interrupted(line),)
        log.warning(str(error))
        raise


def _read_sets(
    run: RunContext, keys: list[str], resources: tuple[str, ...]
) -> "tuple[list[Batch], list[PromptSetError]]":
    """The prompt sets of a run; one that cannot be read does not stop the others."""
    from segmind_dagster.runner import Batch

    batches, problems = [], []
    for key in keys:
        try:
            found = run.prompt_set(key)
        except PromptSetError as error:
            problems.append(error)
        else:
            batches.append(Batch(found, resources))
    if problems and not batches:
        raise problems[0]
    return batches, problems


def _also_loaded(run: RunContext, report: "RunReport") -> list[AssetPartition]:
    """The asset partitions of other prompt sets for which the run has collected something."""
    if not report.also_collected:
        return []
    ledger, _ = run.folder()
    return recorded_partitions(ledger, sorted(report.also_collected))


def _not_loaded(error: Exception) -> str:
    """What a run says that could not load, whatever dlt or the destination said."""
    return (
        f"What was generated is stored, but could not be loaded: {str(error).strip()}\nNothing is lost, and loading it "
        "buys nothing: the sensor failed_generations runs it again, or materialize it once the destination answers."
    )


def _unfinished(report: "RunReport") -> list[str]:
    """One line for each prompt set and model that needs another run, unless the stop message tells already."""
    if report.stop_message:
        return []
    return [
        f"{each.prompt_set} / {each.resource} is not finished: "
        + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(each.endings.items()))
        + ". What was submitted is recorded; materialize again to collect it, nothing is bought twice."
        for each in report.models
        if not each.is_complete
    ]


def _publish(context: dg.AssetExecutionContext, settings: Settings, report: "RunReport", *, is_whole: bool) -> None:
    """Per-partition metadata; when the run stopped early, materializations of the complete partitions only.

    A `MaterializeResult` stands for every partition of the run, so it must not be yielded after a stop.
    """
    is_single = len(context.partition_keys) == 1
    for each in report.models:
        key = MODEL_KEY_OF[each.resource]
        if not is_whole and each.is_complete:
            context.log_event(
                dg.AssetMaterialization(
                    asset_key=key, partition=each.prompt_set, metadata=model_metadata(each, settings)
                )
            )
        elif is_whole and not is_single:
            context.add_asset_metadata(model_metadata(each, settings), asset_key=key, partition_key=each.prompt_set)


def _only(report: "RunReport", resource: str, settings: Settings) -> dict[str, Any]:
    """Metadata of the single partition of a run; a run over many has it per partition instead."""
    of_model = [each for each in report.models if each.resource == resource]
    return model_metadata(of_model[0], settings) if len(of_model) == 1 else {}
