"""The usage assets: what was asked, made and spent, by model, prompt set, day and failure kind."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dlt import DagsterDltResource, dlt_assets

from segmind_dagster.orchestration.failures import as_failure
from segmind_dagster.orchestration.metadata import money_metadata, table_metadata, table_preview
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.translator import SegmindTranslator, asset_key, column_schema
from segmind_dagster.reports.usage import brief, read_table, usage_source
from segmind_dagster.source import load, tables


def build_usage_assets() -> dg.AssetsDefinition:
    """The usage summaries: one step, one table each."""

    @dlt_assets(
        name="usage",
        dlt_source=usage_source(),
        # a dlt pipeline makes folders when it is built: only a run may do that
        dlt_pipeline=None,  # type: ignore[arg-type]
        dagster_dlt_translator=SegmindTranslator(),
    )
    def usage(
        context: dg.AssetExecutionContext, dlt: DagsterDltResource, segmind: SegmindResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        names = [name for name in tables.USAGE_COLUMNS if asset_key(name) in context.selected_asset_keys]
        with as_failure():
            settings = segmind.load()
            source = usage_source().with_resources(*names)
            info, pipeline = load(settings, source, purpose=f"run {context.run_id}", say=context.log.info)
        for name in names:
            loaded = dlt.extract_resource_metadata(context, source.resources[name], info, pipeline)
            rows = read_table(settings, name)
            yield dg.MaterializeResult(
                asset_key=asset_key(name),
                metadata={
                    **money_metadata(rows),
                    # the latest days are what people look for
                    "summary": table_preview(brief(rows[::-1] if name == "usage_by_day" else rows)),
                    **table_metadata(loaded, column_schema(name)),
                },
            )

    return usage
