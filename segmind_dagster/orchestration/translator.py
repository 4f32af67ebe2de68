"""Maps dlt resources to asset specs: keys, groups, lineage, owners, column schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dlt import DagsterDltTranslator

from segmind_dagster.registry import MODELS
from segmind_dagster.source import ACCOUNT_RESOURCES, tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster_dlt.translator import DltResourceTranslatorData

OWNERS = ("team:media",)
PROMPT_SET_KEY = dg.AssetKey("prompt_set")
ACCOUNT_KEYS = tuple(dg.AssetKey(["segmind", name]) for name in ACCOUNT_RESOURCES)
_SUMMARIES: Mapping[str, Mapping[str, Any]] = {**tables.USAGE_COLUMNS, **tables.SPEND_COLUMNS}
MODEL_KEY_OF = {model.resource: dg.AssetKey(["segmind", model.resource]) for model in MODELS}
MODEL_KEYS = tuple(MODEL_KEY_OF.values())
GALLERY_KEY = dg.AssetKey(["gallery", "page"])
REPORT_KEY = dg.AssetKey(["usage", "report"])
# not `eager()`, which waits for every upstream partition ever to be there; what is updated while a refresh is under
# way, or at the very tick after it was requested, is remembered for the next one
_UPDATED = dg.AutomationCondition.any_deps_updated()
REFRESHED = (
    _UPDATED.since(dg.AutomationCondition.newly_requested() & ~_UPDATED).with_label("updated since last requested")
    & ~dg.AutomationCondition.in_progress()
)

_COLUMNS: Mapping[str, Mapping[str, Any]] = {
    **{model.resource: tables.MODEL_COLUMNS for model in MODELS},
    "credits": tables.CREDITS_COLUMNS,
    "models": tables.MODELS_COLUMNS,
    "model_changes": tables.MODEL_CHANGES_COLUMNS,
    "models_page": tables.MODELS_PAGE_COLUMNS,
    "models_page_rows": tables.MODELS_PAGE_ROWS_COLUMNS,
    "request_history": tables.HISTORY_COLUMNS,
    **_SUMMARIES,
}


class SegmindTranslator(DagsterDltTranslator):
    """Assets of the Segmind source.

    The default translator invents an upstream asset for each resource; here a model depends on `prompt_set`, a
    summary on the models, a comparison on the account too, and the account on nothing but itself.
    """

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        """The spec of one resource."""
        resource = data.resource
        name = resource.name
        spec = dg.AssetSpec(
            key=asset_key(name),
            description=(resource._pipe.gen.__doc__ or "").strip(),  # noqa: SLF001  where dlt keeps a resource's docstring
            kinds={"dlt", "segmind"},
            owners=OWNERS,
            metadata={
                "dagster/column_schema": column_schema(name),
                "dagster/table_name": f"segmind_data.{name}",
            },
        )
        if name in _SUMMARIES:
            group = spec.key.path[0]
            return spec.replace_attributes(
                group_name=group,
                kinds={"dlt", "sql"},
                deps=[*MODEL_KEYS, *(_COMPARED if group == "spend" else ())],
                automation_condition=REFRESHED,
            )
        if name in ACCOUNT_RESOURCES:
            return spec.replace_attributes(
                group_name="account", deps=[asset_key(_PARENTS[name])] if name in _PARENTS else []
            )
        return spec.replace_attributes(group_name="segmind", deps=[PROMPT_SET_KEY])


def asset_key(resource_name: str) -> dg.AssetKey:
    """Key of a dlt resource's asset: `segmind/<resource>`, or `usage/<summary>` and `spend/<comparison>`."""
    if resource_name in _SUMMARIES:
        return dg.AssetKey(resource_name.split("_", 1))
    return dg.AssetKey(["segmind", resource_name])


def column_schema(resource_name: str) -> dg.TableSchema:
    """The columns of a resource's table as the UI shows them, with units and descriptions."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=name,
                type=hints["data_type"],
                description=hints["description"],
                constraints=dg.TableColumnConstraints(nullable=hints.get("nullable", True)),
            )
            for name, hints in _COLUMNS[resource_name].items()
        ]
    )


USAGE_KEYS = tuple(map(asset_key, tables.USAGE_COLUMNS))
SPEND_KEYS = tuple(map(asset_key, tables.SPEND_COLUMNS))
# what our own records are compared with
_COMPARED = (asset_key("credits"), asset_key("request_history"))
_PARENTS = {"model_changes": "models", "models_page_rows": "models_page"}
