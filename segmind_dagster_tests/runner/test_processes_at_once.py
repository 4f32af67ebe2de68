"""Several processes over one partition at the same moment: each generation is bought by one of them, and all end."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from lab.project import V1, V2
from lab.proxy import HISTORY, Proxy
from lab.run_process import owners, runs, until

from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from conftest import OpenLab

pytestmark = pytest.mark.kill


@pytest.mark.parametrize(("resource", "generations", "processes"), [(V2, 1, 2), (V2, 30, 3), (V2, 250, 2), (V1, 60, 2)])
def test_runs_over_one_partition_share_its_generations_and_all_complete(
    open_lab: OpenLab, resource: str, generations: int, processes: int
) -> None:
    lab = open_lab(fixed_latency_s=0.3)
    lab.write("fruit", generations, models=[resource])
    with runs(lab, *[{}] * processes) as started:
        for run in started:
            run.go()
        endings = [run.endings() for run in started]
    assert [sum(each.values()) for each in endings] == [generations] * processes
    together = sum((Counter(each) for each in endings), Counter())
    assert together == Counter(succeeded=generations, reused=generations * (processes - 1))
    lab.check_all_bought_once(generations)
    assert lab.posts == generations


def test_two_runs_with_lost_submissions_do_not_deadlock(
    open_lab: OpenLab,
) -> None:
    lab = open_lab(fixed_latency_s=0.2, faults=Faults(rates={"accepted_then_reset": 1.0}))
    # too few for a model that never answers to be stopped
    prompts = [f"fruit number {number}" for number in range(7)]
    # from both ends, so that each of them gets a share that the other one waits for
    lab.write("fruit", prompts)
    lab.write("reversed", prompts[::-1])
    with Proxy(lab.server.url, is_platform=True) as proxy:
        proxy.answers[HISTORY] = lambda _: "a page for people"
        # slow enough that each of them gets a share
        environ = {"SEGMIND_PLATFORM_URL": proxy.url, "SEGMIND_REQUESTS_PER_MINUTE": "300"}
        with runs(lab, environ, {**environ, "PROMPT_SET": "reversed"}) as started:
            for run in started:
                run.go()
            endings = [run.endings(within_s=30) for run in started]
        assert endings == [{"unknown": 7}] * 2
    # the history can be read again: what was lost is found, not bought again
    with runs(lab, {}) as (again,):
        assert again.go().endings() == {"succeeded": 7}
    lab.check_all_bought_once(7)
    assert lab.posts == 7


@pytest.mark.parametrize(
    ("gap", "resource"),
    [
        ("after the claim, before the POST", V2),
        ("amid the POST", V2),
        ("after the POST, before its answer is recorded", V2),
    ],
)
def test_a_run_that_waits_for_a_killed_run_takes_over(open_lab: OpenLab, gap: str, resource: str) -> None:
    lab = open_lab(fixed_latency_s=0.5)
    lab.write("fruit", 12, models=[resource])
    with runs(lab, {"STOP_AT": gap}, {}) as (killed, other):
        killed.go().until_stopped()
        other.go()
        until(lambda: len(owners(lab)) == 2)
        killed.signal(signal.SIGKILL)
        assert killed.ended()[0] == -signal.SIGKILL
        # nobody waits for a lease of a minute when its owner's process is gone
        endings = other.endings(within_s=20)
    assert sum(endings.values()) == 12
    assert set(endings) <= {"succeeded", "reused"}
    lab.check_all_bought_once(12)
