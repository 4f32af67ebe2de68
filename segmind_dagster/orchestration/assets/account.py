"""The account assets: balance, models, models page and request history, as Segmind tells them. Free to read."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dlt import DagsterDltResource, dlt_assets

from segmind_dagster.orchestration.failures import as_failure
from segmind_dagster.orchestration.metadata import figures_metadata, table_metadata
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.translator import SegmindTranslator, asset_key, column_schema
from segmind_dagster.reports.account import account_figures
from segmind_dagster.source import ACCOUNT_RESOURCES, build_source, load, segmind_source


def build_account_assets() -> dg.AssetsDefinition:
    """The account assets: one step, of which any part can be selected."""

    @dlt_assets(
        name="segmind_account",
        dlt_source=segmind_source(generate=False).with_resources(*ACCOUNT_RESOURCES),
        # a dlt pipeline makes folders when it is built: only a run may do that
        dlt_pipeline=None,  # type: ignore[arg-type]
        dagster_dlt_translator=SegmindTranslator(),
    )
    def segmind_account(
        context: dg.AssetExecutionContext, dlt: DagsterDltResource, segmind: SegmindResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        names = [name for name in ACCOUNT_RESOURCES if asset_key(name) in context.selected_asset_keys]
        with as_failure():
            settings = segmind.load()
            settings.require_api_key()
            source = build_source(settings, prompt_sets=[]).with_resources(*names)
            info, pipeline = load(settings, source, purpose=f"run {context.run_id}", say=context.log.info)
            figures = account_figures(settings, names)
        for name in names:
            loaded = dlt.extract_resource_metadata(context, source.resources[name], info, pipeline)
            table = table_metadata(loaded, column_schema(name))
            yield dg.MaterializeResult(
                asset_key=asset_key(name), metadata={**figures_metadata(figures.get(name, {})), **table}
            )

    return segmind_account
