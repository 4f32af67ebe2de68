"""How the code location looks: keys, groups, lineage, owners, columns, and what runs by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
from lab.dagster_project import ACCOUNT, PAGES, SPEND, USAGE, asset_key
from lab.project import FLUX, REALITY

from segmind_dagster.definitions import defs
from segmind_dagster.orchestration.partitions import prompt_sets
from segmind_dagster.registry import MODELS
from segmind_dagster.source import tables

if TYPE_CHECKING:
    from lab.dagster_project import DagsterLab

SPECS = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
MODEL_ASSETS = [f"segmind/{model.resource}" for model in MODELS]


def test_the_code_location_has_exactly_these_assets() -> None:
    assert set(SPECS) == {"prompt_set", *MODEL_ASSETS, *ACCOUNT, *USAGE, *SPEND, *PAGES}


@pytest.mark.parametrize(
    ("assets", "group"),
    [
        (["prompt_set"], "prompts"),
        (MODEL_ASSETS, "segmind"),
        (ACCOUNT, "account"),
        ((*USAGE, "usage/report"), "usage"),
        (SPEND, "spend"),
        (["gallery/page"], "gallery"),
    ],
)
def test_every_asset_is_in_the_group_of_its_kind(assets: list[str], group: str) -> None:
    assert {SPECS[name].group_name for name in assets} == {group}


def test_models_come_from_prompt_sets_summaries_from_models_and_comparisons_from_the_account_too() -> None:
    upstream = {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in SPECS.items()}
    assert upstream == {
        "prompt_set": set(),
        **{name: {"prompt_set"} for name in MODEL_ASSETS},
        **{name: set() for name in ACCOUNT},
        "segmind/model_changes": {"segmind/models"},
        "segmind/models_page_rows": {"segmind/models_page"},
        **{name: set(MODEL_ASSETS) for name in USAGE},
        **{name: {*MODEL_ASSETS, "segmind/credits", "segmind/request_history"} for name in SPEND},
        "gallery/page": set(MODEL_ASSETS),
        "usage/report": {
            *(f"usage/{name}" for name in ("by_day", "by_model", "by_prompt_set", "by_failure")),
            *(f"spend/{name}" for name in ("unexplained", "paid_twice", "not_held")),
        },
    }


def test_prompt_sets_models_and_galleries_share_one_partitions_definition() -> None:
    partitioned = {name for name, spec in SPECS.items() if spec.partitions_def is not None}
    assert partitioned == {"prompt_set", "gallery/page", *MODEL_ASSETS}
    assert {SPECS[name].partitions_def for name in partitioned} == {prompt_sets}
    assert prompt_sets.name == "prompt_sets"


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_asset_is_described_owned_and_has_its_kind(name: str) -> None:
    spec = SPECS[name]
    assert spec.description
    assert "\n " not in spec.description
    assert list(spec.owners) == ["team:media"]
    others = {
        "prompt_set": {"yaml"},
        **{made: {"dlt", "sql"} for made in (*USAGE, *SPEND)},
        **{page: {"html"} for page in PAGES},
    }
    assert spec.kinds == others.get(name, {"dlt", "segmind"})


def test_model_descriptions_are_distinct() -> None:
    assert len({SPECS[name].description for name in MODEL_ASSETS}) == len(MODELS)
    for model in MODELS:
        assert model.title in (SPECS[f"segmind/{model.resource}"].description or "")


@pytest.mark.parametrize("name", sorted(set(SPECS) - {"prompt_set", *PAGES}))
def test_every_column_is_shown_with_type_and_description(name: str) -> None:
    metadata = SPECS[name].metadata
    columns = metadata["dagster/column_schema"].columns
    assert columns
    assert all(column.description and column.type for column in columns)
    table = name.replace("segmind/", "").replace("/", "_")
    assert metadata["dagster/table_name"] == f"segmind_data.{table}"


def test_the_columns_of_a_model_are_those_of_its_table() -> None:
    columns = {column.name: column for column in SPECS[f"segmind/{FLUX}"].metadata["dagster/column_schema"].columns}
    assert list(columns) == list(tables.MODEL_COLUMNS)
    assert columns["cost_usd"].type == "decimal"
    assert {name for name, column in columns.items() if not column.constraints.nullable} == {
        "prompt_set", "generation_id",
    }  # fmt: skip


def test_the_metadata_of_a_run_has_the_same_columns(lab: DagsterLab) -> None:
    figures = lab.run(f"segmind/{REALITY}", partition=lab.write("fruit", 1)).figures(f"segmind/{REALITY}", "fruit")
    assert figures["dagster/column_schema"] == SPECS[f"segmind/{REALITY}"].metadata["dagster/column_schema"]
    assert figures["rows_loaded"] == 1


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_asset_can_be_selected_alone(name: str) -> None:
    graph = defs.resolve_asset_graph()
    assert dg.AssetSelection.assets(asset_key(name)).resolve(graph) == {asset_key(name)}
    (definition,) = [
        asset
        for asset in defs.resolve_all_job_defs()[0].asset_layer.asset_graph.assets_defs
        if asset_key(name) in asset.keys
    ]
    assert len(definition.keys) == 1 or definition.can_subset


def test_only_summaries_and_pages_refresh_by_themselves() -> None:
    automatic = {name for name, spec in SPECS.items() if spec.automation_condition is not None}
    assert automatic == {*USAGE, *SPEND, *PAGES}


def test_sensors_run_by_default_and_schedules_do_not() -> None:
    sensors = {sensor.name: sensor.default_status for sensor in defs.sensors or []}
    names = ("prompt_files", "failed_generations", "paid_outputs", "low_balance", "automation")
    assert sensors == dict.fromkeys(names, dg.DefaultSensorStatus.RUNNING)
    schedules = {schedule.name: schedule for schedule in defs.schedules or []}
    assert schedules["account_refresh"].default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedules["account_refresh"].execution_timezone == "UTC"


def test_the_definitions_are_loadable() -> None:
    dg.Definitions.validate_loadable(defs)


def test_summaries_refresh_once_when_a_model_was_materialized_and_not_otherwise(lab: DagsterLab) -> None:
    wanted = dg.AssetSelection.groups("usage")
    # the report is asked for together with the summaries, and so made from them in the same run
    expected = len(USAGE) + 1

    def tick(cursor: object = None) -> dg.EvaluateAutomationConditionsResult:
        return dg.evaluate_automation_conditions(
            defs=lab.definitions, instance=lab.instance, asset_selection=wanted, cursor=cursor
        )

    # two sets, one of them never materialized: `eager()` would wait for it for ever
    lab.write("pear", 1)
    quiet = tick()
    assert quiet.total_requested == 0
    lab.run(f"segmind/{REALITY}", partition=lab.write("fruit", 1))
    requested = tick(quiet.cursor)
    assert requested.total_requested == expected
    assert tick(requested.cursor).total_requested == 0
