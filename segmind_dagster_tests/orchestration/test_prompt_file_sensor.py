"""Prompt files and partitions stay in step, by the sensor's tick and by `sync_partitions` alike.

And what a tick says of broken files, and does for sets with `auto_run`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
from lab.dagster_project import asset_key
from lab.project import FLUX, REALITY
from lab.sensors import STARTED, Ticks, record_run

from segmind_dagster.errors import PromptSetError
from segmind_dagster.orchestration.sensors import REQUESTED_BY, prompt_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.dagster_project import DagsterLab

GOOD = "models: [sdxl_newreality]\nprompts: [a pear]\n"
BROKEN = "models: [sdxl_newreality\n"


def tick(lab: DagsterLab) -> dg.SensorResult | dg.SkipReason:
    """One evaluation, and its requests carried out as the daemon does."""
    context = dg.build_sensor_context(instance=lab.instance, resources={"segmind": lab.segmind})
    result = prompt_files(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    if isinstance(result, dg.SensorResult):
        for request in result.dynamic_partitions_requests or []:
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                lab.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
            else:
                for key in request.partition_keys:
                    lab.instance.delete_dynamic_partition(request.partitions_def_name, key)
    return result


def put(lab: DagsterLab, name: str, text: str = GOOD) -> None:
    (lab.prompts / name).write_text(text)


@pytest.fixture(params=[tick, lambda lab: lab.sync()], ids=["sensor", "sync"])
def bring_in_step(request: pytest.FixtureRequest) -> Callable[[DagsterLab], object]:
    """Both ways of doing it."""
    way: Callable[[DagsterLab], object] = request.param
    return way


def test_a_file_is_a_partition_and_a_file_gone_is_a_partition_gone(
    lab: DagsterLab, bring_in_step: Callable[[DagsterLab], object]
) -> None:
    for name in ("apple.yaml", "fig.txt", "pear.csv", "README.md", ".hidden.yaml"):
        put(lab, name)
    bring_in_step(lab)
    assert lab.partitions() == {"apple", "fig", "pear"}
    (lab.prompts / "fig.txt").unlink()
    put(lab, "quince.jsonl")
    bring_in_step(lab)
    assert lab.partitions() == {"apple", "pear", "quince"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["apple.yaml"], {"apple.yaml": BROKEN}),
        (["apple.yaml"], {"apple.yaml": GOOD, "apple.csv": "prompt\na pear\n"}),
        (["apple.yaml"], {"apple.yaml": "\x00\x01"}),
    ],
    ids=["no YAML any more", "a second file of that stem", "no text any more"],
)
def test_a_partition_whose_file_is_broken_is_kept(
    lab: DagsterLab, bring_in_step: Callable[[DagsterLab], object], before: list[str], after: dict[str, str]
) -> None:
    for name in before:
        put(lab, name)
    bring_in_step(lab)
    for name, text in after.items():
        put(lab, name, text)
    put(lab, "pear.yaml")
    bring_in_step(lab)
    assert lab.partitions() == {"apple", "pear"}


def test_without_changes_the_tick_is_skipped(lab: DagsterLab) -> None:
    put(lab, "apple.yaml")
    tick(lab)
    skipped = tick(lab)
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == "Every prompt file has its partition."


def test_files_that_cannot_be_sets_are_named_and_the_others_added(lab: DagsterLab) -> None:
    for name in ("My Fruit.yaml", "apple.yaml", "apple.txt", "pear.yaml"):
        put(lab, name)
    added, removed, problems = lab.sync()
    assert (added, removed) == (["pear"], [])
    assert len(problems) == 3
    for name in ("My Fruit.yaml", "apple.yaml", "apple.txt"):
        assert any(problem.startswith(f"{name}: ") for problem in problems)
    skipped = tick(lab)
    assert isinstance(skipped, dg.SkipReason)
    assert "My Fruit.yaml" in (skipped.skip_message or "")


def test_a_missing_folder_skips_with_its_name_and_removes_no_partition(lab: DagsterLab) -> None:
    put(lab, "apple.yaml")
    tick(lab)
    (lab.prompts / "apple.yaml").unlink()
    lab.prompts.rmdir()
    skipped = tick(lab)
    assert isinstance(skipped, dg.SkipReason)
    assert str(lab.prompts) in (skipped.skip_message or "")
    assert "SEGMIND_PROMPTS_DIR" in (skipped.skip_message or "")
    with pytest.raises(PromptSetError):
        lab.sync()
    assert lab.partitions() == {"apple"}


def test_a_setting_that_cannot_be_read_skips_with_its_name(lab: DagsterLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMIND_DAILY_BUDGET_USD", "plenty")
    skipped = tick(lab)
    assert isinstance(skipped, dg.SkipReason)
    assert "SEGMIND_DAILY_BUDGET_USD" in (skipped.skip_message or "")


def test_the_sensor_needs_no_key_and_sends_no_request(lab: DagsterLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    put(lab, "apple.yaml")
    tick(lab)
    assert lab.partitions() == {"apple"}
    assert sum(lab.server.account()["requests"].values()) == 0
    assert not lab.data.exists()


def test_rows_of_a_set_whose_file_is_gone_stay(lab: DagsterLab) -> None:
    lab.run(f"segmind/{REALITY}", partition=lab.write("apple", 1))
    lab.run(f"segmind/{REALITY}", partition=lab.write("pear", 1))
    (lab.prompts / "apple.yaml").unlink()
    assert lab.sync() == ([], ["apple"], [])
    rows = lab.records(f"SELECT prompt_set FROM {REALITY} ORDER BY 1")
    assert [row["prompt_set"] for row in rows] == ["apple", "pear"]


def test_an_empty_prompts_folder_removes_no_partition_and_says_so(lab: DagsterLab) -> None:
    lab.write("apple", 1)
    lab.sync()
    (lab.prompts / "apple.yaml").unlink()
    added, removed, problems = lab.sync()
    assert (added, removed) == ([], [])
    assert "empty" in problems[0]


def test_a_thousand_prompt_sets_are_added_in_one_tick(lab: DagsterLab) -> None:
    for n in range(1000):
        put(lab, f"set_{n:04}.txt", "a pear\n")
    result = tick(lab)
    assert isinstance(result, dg.SensorResult)
    assert len(result.dynamic_partitions_requests or []) == 1
    assert len(lab.partitions()) == 1000
    assert isinstance(tick(lab), dg.SkipReason)


AUTO = "models: [sdxl_newreality]\nauto_run: true\nprompts: [a pear]\n"
ASSET = f"segmind/{REALITY}"


@pytest.fixture
def ticks(lab: DagsterLab) -> Ticks:
    return Ticks(lab, prompt_files)


def problems_on_the_asset(lab: DagsterLab, key: str) -> list[bool]:
    """Of each observation of a prompt set, oldest first, whether it tells a problem."""
    records = lab.instance.fetch_observations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey("prompt_set"), asset_partitions=[key]), limit=100
    ).records
    return [bool(record.asset_observation.metadata) for record in reversed(records) if record.asset_observation]


def test_a_set_with_auto_run_runs_in_the_tick_that_adds_it(lab: DagsterLab, ticks: Ticks) -> None:
    put(lab, "apple.yaml", AUTO)
    put(lab, "pear.yaml")
    (request,), _ = ticks.tick()
    assert lab.partitions() == {"apple", "pear"}
    assert request.partition_key == "apple"
    assert set(request.asset_selection or []) == {asset_key("prompt_set"), asset_key(ASSET)}
    assert request.tags[REQUESTED_BY] == "prompt_files"
    assert ticks.reason() == "Every prompt file has its partition."
    run = lab.run(ASSET, partition="apple", tags=request.tags)
    assert run.is_success, run.errors()
    assert lab.materialized(ASSET) == {"apple"}


def test_a_set_runs_once_for_each_content_even_if_the_cursor_is_lost(lab: DagsterLab, ticks: Ticks) -> None:
    put(lab, "apple.yaml", AUTO)
    (first,), _ = ticks.tick()
    ticks.cursor = None
    (same,), _ = ticks.tick()
    assert same.run_key == first.run_key
    put(lab, "apple.yaml", AUTO.replace("a pear", "a golden pear"))
    (changed,), _ = ticks.tick()
    assert changed.run_key != first.run_key


def test_only_the_models_of_the_set_are_run(lab: DagsterLab, ticks: Ticks) -> None:
    put(lab, "apple.yaml", AUTO.replace("sdxl_newreality", "sdxl_newreality, fast_flux_schnell"))
    (request,), _ = ticks.tick()
    keys = {asset_key(name) for name in ("prompt_set", ASSET, f"segmind/{FLUX}")}
    assert set(request.asset_selection or []) == keys


def test_a_renamed_file_is_a_removal_and_an_addition_and_nothing_is_bought_again(lab: DagsterLab, ticks: Ticks) -> None:
    put(lab, "apple.yaml", AUTO)
    put(lab, "fig.yaml")
    (request,), _ = ticks.tick()
    lab.run(ASSET, partition="apple", tags=request.tags)
    (lab.prompts / "apple.yaml").rename(lab.prompts / "quince.yaml")
    (request,), _ = ticks.tick()
    assert lab.partitions() == {"fig", "quince"}
    assert request.partition_key == "quince"
    assert lab.run(ASSET, partition="quince", tags=request.tags).is_success
    assert lab.posts == 1
    assert {row["prompt_set"] for row in lab.records(f"SELECT prompt_set FROM {REALITY}")} == {"apple", "quince"}


@pytest.mark.parametrize(
    ("fields", "environ", "words"),
    [
        ("budget_usd: 0.001", {}, "`budget_usd`"),
        ("", {"SEGMIND_RUN_BUDGET_USD": "0.001"}, "SEGMIND_RUN_BUDGET_USD"),
        ("", {"SEGMIND_DAILY_BUDGET_USD": "0.001"}, "SEGMIND_DAILY_BUDGET_USD"),
        ("", {"SEGMIND_API_KEY": ""}, "SEGMIND_API_KEY"),
    ],
)
def test_a_set_that_may_not_run_has_a_reason_and_runs_once_it_may(
    lab: DagsterLab,
    ticks: Ticks,
    monkeypatch: pytest.MonkeyPatch,
    fields: str,
    environ: dict[str, str],
    words: str,
) -> None:
    put(lab, "apple.yaml", f"{AUTO}{fields}\n")
    with monkeypatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        assert ticks.tick()[0] == []
        assert lab.partitions() == {"apple"}
        reason = ticks.reason()
    assert reason.startswith("'apple' is not run: ")
    assert words in reason
    put(lab, "apple.yaml", AUTO)
    assert ticks.partitions() == ["apple"]


def test_a_set_in_flight_waits_for_its_run(lab: DagsterLab, ticks: Ticks) -> None:
    put(lab, "apple.yaml", AUTO)
    run_id = record_run(lab, STARTED, ASSET, tags={"dagster/partition": "apple"})
    ticks.tick()
    assert ticks.reason() == f"'apple' is not run: run {run_id[:8]} is at it"
    lab.instance.delete_run(run_id)
    assert ticks.partitions() == ["apple"]


def test_a_broken_file_is_named_at_each_tick_and_once_on_the_asset_while_others_go_on(
    lab: DagsterLab, ticks: Ticks
) -> None:
    put(lab, "apple.yaml", "models: [sdxl_newreality]\nprompt: a fig\n")
    put(lab, "pear.yaml", AUTO)
    (request,), _ = ticks.tick()
    assert request.partition_key == "pear"
    for _ in range(2):
        assert "apple.yaml" in ticks.reason()
    assert problems_on_the_asset(lab, "apple") == [True]
    put(lab, "apple.yaml", "models: [sdxl_newreality]\nprompt: two figs\n")
    ticks.tick()
    put(lab, "apple.yaml", GOOD)
    assert ticks.reason() == "Every prompt file has its partition."
    assert problems_on_the_asset(lab, "apple") == [True, True, False]
    assert problems_on_the_asset(lab, "pear") == []


def test_a_tick_over_unchanged_files_reads_none_and_remembers_little(lab: DagsterLab, ticks: Ticks) -> None:
    for n in range(200):
        put(lab, f"set_{n:04}.yaml", AUTO.replace("auto_run: true", "auto_run: false"))
    ticks.tick()
    assert len(ticks.cursor or "") < 200 * 30
    for path in lab.prompts.iterdir():
        path.chmod(0o000)  # the owner of everything may read them all the same; nobody else can
    assert ticks.reason() == "Every prompt file has its partition."


@pytest.mark.parametrize("cursor", ["", "no JSON", "[]", '{"apple": "old"}'])
def test_any_cursor_is_accepted(lab: DagsterLab, ticks: Ticks, cursor: str) -> None:
    put(lab, "apple.yaml", AUTO)
    ticks.cursor = cursor
    assert ticks.partitions() == ["apple"]
