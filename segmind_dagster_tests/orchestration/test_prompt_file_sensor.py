"""Prompt files and partitions stay in step, by the sensor's tick and by `sync_partitions` alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster_lab import REALITY

from segmind_dagster.errors import PromptSetError
from segmind_dagster.orchestration.sensors import prompt_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagster_lab import DagsterLab

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


def test_nothing_to_do_says_so(lab: DagsterLab) -> None:
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


def test_a_missing_folder_skips_with_its_name_and_takes_no_partition_away(lab: DagsterLab) -> None:
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


def test_the_sensor_needs_no_key_and_asks_nobody(lab: DagsterLab, monkeypatch: pytest.MonkeyPatch) -> None:
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
    rows = lab.rows(f"SELECT prompt_set FROM {REALITY} ORDER BY 1")
    assert [row["prompt_set"] for row in rows] == ["apple", "pear"]


def test_an_empty_prompts_folder_removes_no_partition_and_says_so(lab: DagsterLab) -> None:
    lab.write("apple", 1)
    lab.sync()
    (lab.prompts / "apple.yaml").unlink()
    added, removed, problems = lab.sync()
    assert (added, removed) == ([], [])
    assert "empty" in problems[0]


def test_a_thousand_prompt_sets_are_one_tick(lab: DagsterLab) -> None:
    for n in range(1000):
        put(lab, f"set_{n:04}.txt", "a pear\n")
    result = tick(lab)
    assert isinstance(result, dg.SensorResult)
    assert len(result.dynamic_partitions_requests or []) == 1
    assert len(lab.partitions()) == 1000
    assert isinstance(tick(lab), dg.SkipReason)
