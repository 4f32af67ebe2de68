"""The reconciliation assets: ledger, Segmind's history and the balance compared, with a check each.

The checks are answered by the step that made the tables: it has the rows, and no other reader of the
warehouse has to wait for its turn.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dlt import DagsterDltResource
from dagster_dlt.translator import DltResourceTranslatorData

from segmind_dagster.checks.spend import CHECKS, judged
from segmind_dagster.orchestration.checks.results import figures, whole
from segmind_dagster.orchestration.failures import as_failure
from segmind_dagster.orchestration.metadata import table_metadata, table_preview
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.translator import SegmindTranslator, asset_key, column_schema
from segmind_dagster.reports.spend import read_spend, spend_source
from segmind_dagster.settings import load_settings
from segmind_dagster.source import load, tables


def build_spend_assets() -> dg.AssetsDefinition:
    """The reconciliation: one step, one table and one check each."""
    translator = SegmindTranslator()

    @dg.multi_asset(
        name="spend",
        specs=[
            translator.get_asset_spec(DltResourceTranslatorData(resource=resource, pipeline=None))
            for resource in spend_source(load_settings).resources.values()
        ],
        check_specs=[
            dg.AssetCheckSpec(check, asset=asset_key(name), description=description)
            for name, (check, description, _) in CHECKS.items()
        ],
        can_subset=True,
    )
    def spend(
        context: dg.AssetExecutionContext, dlt: DagsterDltResource, segmind: SegmindResource
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckEvaluation]:
        checks = {check.asset_key for check in context.selected_asset_check_keys}
        wanted = context.selected_asset_keys
        names = [name for name in tables.SPEND_COLUMNS if asset_key(name) in wanted | checks]
        made = [name for name in names if asset_key(name) in wanted]
        with as_failure():
            settings = segmind.load()
            source = spend_source(lambda: settings).with_resources(*made)
            if made:
                info, pipeline = load(settings, source, purpose=f"run {context.run_id}", say=context.log.info)
            compared = read_spend(settings, names)
        found = {name: judged(name, rows, reach=reach) for name, (rows, reach) in compared.items()}
        for name in made:
            loaded = dlt.extract_resource_metadata(context, source.resources[name], info, pipeline)
            yield dg.MaterializeResult(
                asset_key=asset_key(name),
                metadata={
                    **figures(found[name]),
                    **({"newest rows": table_preview(rows[::-1])} if (rows := compared[name][0]) else {}),
                    **table_metadata(loaded, column_schema(name)),
                },
            )
        asked = [name for name in names if asset_key(name) in checks]
        yield from whole({dg.AssetCheckKey(asset_key(name), CHECKS[name][0]): found[name] for name in asked})

    return spend
