"""The model assets: what a run generates is in the warehouse, on the page of its partition, and in nobody else's."""

from __future__ import annotations

import base64
import io
import re
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from lab.project import FLUX, REALITY, STICKER
from PIL import Image
from sqlalchemy import update

from segmind_dagster.data_folder import opened
from segmind_dagster.ledger.schema import GENERATIONS
from segmind_dagster.registry import MODELS
from segmind_dagster.sandbox import Faults, ScriptedFault

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.dagster_project import DagsterLab

ASSET = f"segmind/{REALITY}"
SAME_NAME = (
    "generation_id",
    "prompt",
    "seed",
    "request_id",
    "attempts",
    "output_uri",
    "output_sha256",
    "width",
    "run_id",
)


def images_of(sheet: str) -> list[Image.Image]:
    """The thumbnails of a contact sheet, as a browser would read them."""
    found = re.findall(r"!\[\]\(data:image/jpeg;base64,([A-Za-z0-9+/=]+)\)", sheet)
    return [Image.open(io.BytesIO(base64.b64decode(data, validate=True))) for data in found]


def test_the_rows_in_the_warehouse_are_those_of_the_ledger(lab: DagsterLab) -> None:
    run = lab.run(ASSET, partition=lab.write("fruit", 3))
    assert run.is_success, run.errors()
    rows = {row["generation_id"]: row for row in lab.records(f"SELECT * FROM {REALITY}")}
    generations = lab.generations()
    assert len(rows) == len(generations) == 3
    for generation in generations:
        row = rows[generation["generation_id"]]
        assert {name: row[name] for name in SAME_NAME} == {name: generation[name] for name in SAME_NAME}
        assert (row["prompt_set"], row["status"], row["cost_usd"]) == ("fruit", "succeeded", generation["cost_usd"])
        assert row["run_id"] == run.run_id
    attempts = {row["request_id"]: row["cost_usd"] for row in lab.records("SELECT * FROM attempts")}
    assert attempts == {job["request_id"]: Decimal(job["cost_usd"]) for job in lab.jobs()}


def test_the_metadata_of_a_partition_has_its_cost_to_the_cent(lab: DagsterLab) -> None:
    figures = lab.run(ASSET, partition=lab.write("fruit", 3)).figures(ASSET, "fruit")
    assert (figures["generations"], figures["generations succeeded"]) == (3, 3)
    assert figures["cost of this run (USD)"] == float(lab.charged_usd) > 0
    assert figures["of it estimated (USD)"] == figures["saved by reuse (USD)"] == 0
    assert 0 < figures["latency p50 (ms)"] <= figures["latency p95 (ms)"]
    assert figures["API"] == lab.server.url
    assert figures["outputs"] == str(lab.data / "outputs" / REALITY)


def test_the_contact_sheet_is_markdown_with_pictures_a_browser_can_read(lab: DagsterLab) -> None:
    figures = lab.run(ASSET, partition=lab.write("fruit", 5)).figures(ASSET, "fruit")
    sheet = figures["contact sheet"]
    assert len(sheet.encode()) < 100_000
    assert [image.format for image in images_of(sheet)] == ["JPEG"] * 5
    table = sheet.splitlines()
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    for n in range(5):
        assert f"fruit number {n}" in sheet
    assert next(iter(figures)) == "contact sheet"


def test_materializing_again_buys_nothing_and_reports_the_savings(lab: DagsterLab) -> None:
    key = lab.write("fruit", 3)
    lab.run(ASSET, partition=key)
    paid_usd, posts = lab.charged_usd, lab.posts
    figures = lab.run(ASSET, partition=key).figures(ASSET, key)
    assert (figures["generations"], figures["generations reused"]) == (3, 3)
    assert (figures["cost of this run (USD)"], figures["saved by reuse (USD)"]) == (0, float(paid_usd))
    assert (lab.charged_usd, lab.posts) == (paid_usd, posts)
    assert lab.records(f"SELECT count(*) AS n FROM {REALITY}") == [{"n": 3}]
    assert len(images_of(figures["contact sheet"])) == 3


def test_one_prompt_changed_is_one_generation_bought(lab: DagsterLab) -> None:
    lab.run(ASSET, partition=lab.write("fruit", ["a pear", "a plum", "a fig"]))
    lab.run(ASSET, partition=lab.write("fruit", ["a pear", "a quince", "a fig"]))
    assert lab.posts == 4
    rows = lab.records(f"SELECT prompt, is_current FROM {REALITY} ORDER BY prompt")
    assert [(row["prompt"], row["is_current"]) for row in rows] == [
        ("a fig", True), ("a pear", True), ("a plum", False), ("a quince", True),
    ]  # fmt: skip


def test_a_set_without_a_model_makes_an_empty_partition_with_the_reason(lab: DagsterLab) -> None:
    key = lab.write("fruit", 2)
    run = lab.run(ASSET, f"segmind/{STICKER}", partition=key)
    assert run.is_success, run.errors()
    figures = run.figures(f"segmind/{STICKER}", key)
    assert figures["generations"] == 0
    assert figures["empty because"] == f"'fruit' is not aimed at {STICKER}."
    assert "empty because" not in run.figures(ASSET, key)
    assert lab.records(f"SELECT count(*) AS n FROM {STICKER}") == [{"n": 0}]


def test_only_the_models_selected_are_bought_and_every_table_exists(lab: DagsterLab) -> None:
    key = lab.write("fruit", 2, models=[REALITY, FLUX])
    run = lab.run(ASSET, partition=key)
    assert run.materialized() == {(ASSET, key)}
    assert {job["slug"] for job in lab.jobs()} == {"sdxl1.0-newreality-lightning"}
    tables = {row["name"] for row in lab.records("SHOW TABLES")}
    assert {model.resource for model in MODELS} | {"attempts"} <= tables


def test_a_range_of_partitions_is_one_run_and_each_has_its_own_figures(lab: DagsterLab) -> None:
    for key, prompts in (("apple", 1), ("fig", 2), ("pear", 3)):
        lab.write(key, prompts)
    run = lab.run_range("apple", "pear", ASSET, f"segmind/{STICKER}")
    assert run.is_success, run.errors()
    costs = []
    for key, prompts in (("apple", 1), ("fig", 2), ("pear", 3)):
        figures = run.figures(ASSET, key)
        assert (figures["generations"], figures["generations succeeded"]) == (prompts, prompts)
        assert f"{key} number {prompts - 1}" in figures["contact sheet"]
        assert all(other == key or other not in figures["contact sheet"] for other in ("apple", "fig", "pear"))
        bought = lab.records(f"SELECT sum(cost_usd) AS usd FROM {REALITY} WHERE prompt_set = '{key}'")
        assert figures["cost of this run (USD)"] == float(bought[0]["usd"])
        costs.append(bought[0]["usd"])
        assert run.figures(f"segmind/{STICKER}", key)["empty because"] == f"'{key}' is not aimed at {STICKER}."
    assert sum(costs) == lab.charged_usd
    assert lab.materialized(ASSET) == {"apple", "fig", "pear"}


def test_a_generation_shared_by_two_sets_is_a_cost_in_one_and_a_saving_in_the_other(lab: DagsterLab) -> None:
    lab.write("apple", ["fruit on a plate"])
    lab.write("pear", ["fruit on a plate"])
    run = lab.run_range("apple", "pear", ASSET)
    assert run.is_success, run.errors()
    assert lab.posts == 1
    pages = [run.figures(ASSET, key) for key in ("apple", "pear")]
    assert [page["cost of this run (USD)"] for page in pages] == [float(lab.charged_usd), 0]
    assert [page["saved by reuse (USD)"] for page in pages] == [0, float(lab.charged_usd)]
    assert all("fruit on a plate" in page["contact sheet"] for page in pages)
    rows = lab.records(f"SELECT prompt_set, cost_usd, saved_usd, is_reused FROM {REALITY} ORDER BY prompt_set")
    assert [tuple(row.values()) for row in rows] == [
        ("apple", lab.charged_usd, 0, False),
        ("pear", 0, lab.charged_usd, True),
    ]


def test_savings_are_unknown_where_the_original_cost_is_unknown(lab: DagsterLab) -> None:
    lab.run(ASSET, partition=lab.write("apple", ["fruit on a plate"]))
    with opened(lab.segmind.load()) as (ledger, _):
        ledger.write(lambda connection: connection.execute(update(GENERATIONS).values(cost_usd=None)))
    run = lab.run(ASSET, partition=lab.write("pear", ["fruit on a plate"]))
    assert run.figures(ASSET, "pear")["saved by reuse (USD)"] == "not known"
    assert lab.records(f"SELECT saved_usd FROM {REALITY} WHERE prompt_set = 'pear'") == [{"saved_usd": None}]


def test_one_bad_file_of_a_range_fails_the_run_but_not_the_other_partitions(lab: DagsterLab) -> None:
    lab.write("apple", 1)
    lab.write_text("fig.yaml", "models: [sdxl_newreality]\nprompt: a fig\n")
    lab.write("pear", 2)
    run = lab.run_range("apple", "pear", ASSET)
    assert "fig.yaml" in run.failure()
    assert run.materialized() == {(ASSET, "apple"), (ASSET, "pear")}
    assert run.figures(ASSET, "pear")["generations succeeded"] == 2
    assert lab.records(f"SELECT count(*) AS n FROM {REALITY}") == [{"n": 3}]


def test_a_permanent_failure_of_one_prompt_is_a_row_and_not_a_failed_run(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["invalid"]))
    key = lab.write("fruit", 3)
    run = lab.run(ASSET, partition=key)
    assert run.is_success, run.errors()
    figures = run.figures(ASSET, key)
    assert (figures["generations succeeded"], figures["generations failed"]) == (2, 1)
    assert "invalid_request: 1" in figures["failures"]
    assert "fruit number" in figures["failures"]
    rows = lab.records(f"SELECT status, failure_kind, cost_usd FROM {REALITY} WHERE status = 'failed'")
    assert rows == [{"status": "failed", "failure_kind": "invalid_request", "cost_usd": 0}]
    assert lab.materialized(ASSET) == {key}


def test_a_lost_answer_is_not_paid_for_twice(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["accepted_then_reset", "truncated"]))
    run = lab.run(ASSET, partition=lab.write("fruit", 3))
    assert run.is_success, run.errors()
    assert run.figures(ASSET, "fruit")["cost of this run (USD)"] == float(lab.charged_usd)
    assert lab.server.account()["charges"] == 3
    assert lab.records("SELECT sum(cost_usd) AS usd FROM attempts") == [{"usd": lab.charged_usd}]


def test_over_budget_is_one_failure_without_a_materialization_or_a_cent(lab: DagsterLab) -> None:
    key = lab.write("fruit", 5, budget_usd=0.01)
    run = lab.run(ASSET, partition=key)
    failure = run.failure()
    for words in ("`budget_usd`", "$0.01", "'fruit'", "Nothing was submitted"):
        assert words in failure
    assert run.materialized() == set()
    assert lab.materialized(ASSET) == set()
    assert (lab.posts, lab.charged_usd) == (0, 0)


def test_a_set_over_its_budget_does_not_stop_the_other_sets_of_the_run(lab: DagsterLab) -> None:
    lab.write("apple", 1)
    lab.write("fig", 5, budget_usd=0.01)
    lab.write("pear", 2)
    run = lab.run_range("apple", "pear", ASSET)
    assert "'fig'" in run.failure()
    assert run.materialized() == {(ASSET, "apple"), (ASSET, "pear")}
    assert lab.posts == 3
    assert lab.records(f"SELECT DISTINCT status FROM {REALITY} WHERE prompt_set = 'fig'") == [{"status": "planned"}]


def test_credits_that_run_out_end_the_run_once_and_keep_what_is_complete(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the second of the three pears is refused, whatever the order of the apples before them
    script = [ScriptedFault(kind=None)] * 3 + [ScriptedFault(kind="no_credits")]
    lab = open_lab(faults=Faults(script=script), fixed_latency_s=0.0)
    monkeypatch.setenv("SEGMIND_MAX_IN_FLIGHT", "1")
    lab.write("apple", 2)
    lab.write("pear", 3)
    run = lab.run_range("apple", "pear", ASSET)
    failure = run.failure()
    assert failure.count("Top up") == 1
    assert run.materialized() == {(ASSET, "apple")}
    assert lab.materialized(ASSET) == {"apple"}
    assert run.figures(ASSET, "apple")["generations succeeded"] == 2
    rows = lab.records(f"SELECT prompt_set, status FROM {REALITY} ORDER BY 1, 2")
    assert [tuple(row.values()) for row in rows] == [
        *[("apple", "succeeded")] * 2, *[("pear", "planned")] * 2, ("pear", "succeeded"),
    ]  # fmt: skip
    assert lab.records("SELECT sum(cost_usd) AS usd FROM attempts") == [{"usd": lab.charged_usd}]
    again = lab.run_range("apple", "pear", ASSET)
    assert again.is_success, again.errors()
    assert lab.server.account()["charges"] == 5
    assert again.figures(ASSET, "pear")["generations succeeded"] == 2


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SEGMIND_API_KEY", "", ("SEGMIND_API_KEY", "secrets.toml", "sandbox")),
        ("SEGMIND_API_KEY", "SG_0123456789abcdef", ("Check SEGMIND_API_KEY",)),
        ("SEGMIND_MAX_IN_FLIGHT", "many", ("SEGMIND_MAX_IN_FLIGHT", "'many' is not a number")),
        ("SEGMIND_RUN_BUDGET_USD", "0.001", ("The run cap", "SEGMIND_RUN_BUDGET_USD")),
    ],
)
def test_a_setting_that_cannot_work_is_one_clear_failure(
    lab: DagsterLab, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: tuple[str, ...]
) -> None:
    key = lab.write("fruit", 2)
    monkeypatch.setenv(variable, value)
    run = lab.run(ASSET, partition=key)
    failure = run.failure()
    for word in words:
        assert word in failure
    assert "SG_0123456789abcdef" not in failure
    assert run.materialized() == set()
    assert lab.posts == 0


def test_a_data_folder_of_another_origin_stops_the_run(open_lab: OpenLab) -> None:
    first, second = open_lab(), open_lab()
    key = first.write("fruit", 1)
    assert first.run(ASSET, partition=key).is_success
    second.write("fruit", 1)
    (first.data).rename(second.data)
    failure = second.run(ASSET, partition=key).failure()
    assert first.server.url in failure
    assert second.server.url in failure
    assert second.posts == 0
