"""Two runs at once over the same prompts, in threads here and in processes: one buys, the other uses it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING

import pytest
from lab.project import V1, V2

from segmind_dagster.outputs import OutputStore

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.runner_project import Lab

    from segmind_dagster.runner import RunReport


def at_once(lab: Lab, *keys: str) -> list[RunReport]:
    """A run for each key, all started together."""
    with ThreadPoolExecutor(len(keys)) as pool:
        return list(pool.map(lab.generate, keys))


@pytest.mark.parametrize("resource", [V1, V2])
def test_two_runs_over_one_set_buy_each_generation_once_and_both_are_complete(open_lab: OpenLab, resource: str) -> None:
    lab = open_lab(fixed_latency_s=0.1)
    key = lab.write("fruit", 20, models=[resource])
    reports = at_once(lab, key, key)
    lab.check_all_bought_once(20)
    assert lab.posts == 20
    for report in reports:
        (result,) = report.models
        assert (result.is_complete, report.stopped_by, result.endings.total()) == (True, None, 20)
        assert set(result.endings) <= {"succeeded", "reused"}
    assert sum(report.models[0].cost_usd for report in reports) == lab.charged_usd


def test_runs_over_overlapping_sets_share_what_they_have_in_common(open_lab: OpenLab) -> None:
    lab = open_lab(fixed_latency_s=0.1)
    prompts = [f"thing {number}" for number in range(12)]
    keys = [lab.write("one", prompts[:8]), lab.write("two", prompts[4:]), lab.write("three", prompts[2:10])]
    reports = at_once(lab, *keys)
    lab.check_all_bought_once(12)
    assert lab.posts == 12
    endings = sum((report.models[0].endings for report in reports), Counter[str]())
    assert (endings["succeeded"], endings["reused"]) == (12, 12)


def test_many_runs_can_open_a_new_data_folder_at_once(lab: Lab) -> None:
    keys = [lab.write(f"set{number}", 1) for number in range(6)]
    reports = at_once(lab, *keys)
    assert [report.models[0].endings for report in reports] == [{"succeeded": 1}] * 6
    lab.check_all_bought_once(6)


def test_an_output_stored_by_another_run_during_planning_is_reused(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = open_lab()
    key = lab.write("fruit", 3)
    look = OutputStore.holds
    others: list[RunReport] = []

    def look_late(self: OutputStore, resource: str, generation_id: str) -> bool:
        with once:
            if not others:
                monkeypatch.setattr(OutputStore, "holds", look)
                others.append(lab.generate(key))
        return look(self, resource, generation_id)

    once = Lock()
    monkeypatch.setattr(OutputStore, "holds", look_late)
    report = lab.generate(key)
    assert others[0].models[0].endings == {"succeeded": 3}
    assert report.models[0].endings == {"reused": 3}
    lab.check_all_bought_once(3)
    assert lab.posts == 3
