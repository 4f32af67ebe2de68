"""The asset `prompt_set`: a file read, validated and priced; nothing is bought for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from lab.project import FLUX, REALITY

if TYPE_CHECKING:
    from lab.dagster_project import DagsterLab

UNPRICED = "consistent_character_neolemon_v2"


def test_the_metadata_of_a_set_has_its_count_and_cost(lab: DagsterLab) -> None:
    key = lab.write("fruit", 4, models=[REALITY, FLUX], description="Fruit on plates", budget_usd=2)
    figures = lab.run("prompt_set", partition=key).figures("prompt_set", key)
    assert (figures["generations"], figures["generations to buy"]) == (8, 8)
    assert (figures["description"], figures["budget (USD)"]) == ("Fruit on plates", "2")
    low, high = (float(end) for end in figures["cost range (USD)"].split(" to "))
    assert 0 < low < figures["expected cost (USD)"] < high
    assert figures["API"] == lab.server.url
    assert figures["file"] == str(lab.prompts / "fruit.yaml")
    assert lab.posts == 0


def test_an_unknown_price_is_not_in_the_expected_cost_and_worded_as_in_the_command(lab: DagsterLab) -> None:
    key = lab.write("fruit", 4, models=[REALITY, UNPRICED], max_unit_cost_usd=0.5)
    figures = lab.run("prompt_set", partition=key).figures("prompt_set", key)
    rows = {row.data["model"]: row.data for row in figures["plan"].records}
    assert (rows[UNPRICED]["expected USD"], rows[UNPRICED]["at most USD"]) == ("unknown", "unknown")
    assert f"{figures['expected cost (USD)']:.4f}" == rows[REALITY]["expected USD"]
    assert figures["cost range (USD)"].endswith(f" to {rows[REALITY]['at most USD']}")
    assert figures["generations of unknown price"] == 4
    assert f"at most $2.0000 more for 4 generations of unknown price ({UNPRICED})" in figures["cost"]


def test_a_set_of_unknown_prices_alone_has_no_expected_cost(lab: DagsterLab) -> None:
    key = lab.write("fruit", 1, models=[UNPRICED], max_unit_cost_usd=0.5)
    figures = lab.run("prompt_set", partition=key).figures("prompt_set", key)
    assert (figures["expected cost (USD)"], figures["cost range (USD)"]) == ("not known", "not known")
    assert figures["time at the current rate (s)"] == "not known"


def test_stored_outputs_are_not_bought_again_and_the_plan_shows_that(lab: DagsterLab) -> None:
    key = lab.write("fruit", 2)
    assert lab.run(f"segmind/{REALITY}", partition=key).is_success
    lab.write("fruit", 5)
    figures = lab.run("prompt_set", partition=key).figures("prompt_set", key)
    assert (figures["generations"], figures["generations to buy"]) == (5, 3)
    (row,) = figures["plan"].records
    assert (row.data["model"], row.data["to buy"], row.data["already owned"]) == (REALITY, 3, 2)
    assert row.data["refused"] == ""


def test_a_plan_that_a_cap_refuses_is_shown_and_does_not_fail(lab: DagsterLab) -> None:
    key = lab.write("fruit", 3, budget_usd=0.001)
    (row,) = lab.run("prompt_set", partition=key).figures("prompt_set", key)["plan"].records
    assert "`budget_usd`" in row.data["refused"]


def test_the_data_version_is_the_digest_and_follows_the_content(lab: DagsterLab) -> None:
    versions = []
    for prompts in (["a pear"], ["a pear"], ["a plum"]):
        key = lab.write("fruit", prompts)
        versions.append(lab.run("prompt_set", partition=key).data_version("prompt_set"))
    assert versions[0] == versions[1] != versions[2]
    assert all(version and len(version) == 64 for version in versions)


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        ("fruit.yaml", "models: [sdxl_newreality]\nprompts: [a pear]\nsampels: 2\n", ("fruit.yaml", "sampels")),
        (
            "fruit.yaml",
            json.dumps({"models": ["fast_flux_schnell"], "defaults": {"steps": 99}, "prompts": ["a pear", {"x": 1}]}),
            ("defaults.steps", "prompts[1]", "3 problems"),
        ),
        ("fruit.yaml", "models: [sdxl_newreality\nprompts: a", ("fruit.yaml, line 2",)),
        ("fruit.csv", "prompt,steps\na pear,four\n", ("fruit.csv, row 1", "steps")),
        ("fruit.jsonl", '{"prompt": "a pear"}\n{"prompt": \n', ("fruit.jsonl, line 2",)),
    ],
    ids=["unknown field", "three at once", "no YAML", "CSV", "JSONL"],
)
def test_a_file_that_cannot_be_used_is_one_clear_failure_with_its_place(
    lab: DagsterLab, name: str, text: str, places: tuple[str, ...]
) -> None:
    key = lab.write_text(name, text)
    for asset in ("prompt_set", f"segmind/{REALITY}"):
        run = lab.run(asset, partition=key)
        failure = run.failure()
        for place in places:
            assert place in failure
        assert "nothing was submitted" in failure
        assert "Traceback" not in failure
        assert run.materialized() == set()
    assert lab.posts == 0


def test_a_partition_without_a_file_lists_the_existing_sets(lab: DagsterLab) -> None:
    lab.write("fruit")
    lab.instance.add_dynamic_partitions("prompt_sets", ["fruits"])
    assert "fruit" in lab.run("prompt_set", partition="fruits").failure()
