"""A run that is told to stop while hundreds are in flight: it lets them land, within bounds, and buys nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from lab.project import V1
from lab.run_process import RunProcess, owners, runs, until

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.runner_project import Lab

pytestmark = pytest.mark.kill

# the scouts of a new model hold the others back for a moment, after which many are sent at once
GENERATIONS, IN_FLIGHT = 600, 150
# what was claimed at the moment of the signal is sent: it takes a busy machine this long to see it
AT_ONCE_S = 1.0
SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
import dlt
from segmind_dagster.source import segmind_source
pipeline = dlt.pipeline("fruit", destination="duckdb", dataset_name="fruit_data")
pipeline.run(segmind_source(prompt_sets=["fruit"], models=["fast_flux_schnell"]).with_resources("fast_flux_schnell"))
"""


def in_flight(lab: Lab, count: int) -> None:
    """Wait until so many have been submitted."""
    until(lambda: lab.server.account()["submissions"] >= count)


def bought_after(lab: Lab, moment: float) -> list[float]:
    """When the sandbox accepted what it accepted later than that, in seconds after it."""
    accepted = [datetime.fromisoformat(job["created_at"]).timestamp() for job in lab.server.account()["jobs"]]
    return [round(at - moment, 2) for at in accepted if at > moment]


def finish(lab: Lab, generations: int) -> None:
    """The next run completes, and nothing is bought twice."""
    with runs(lab, {}) as (again,):
        endings = again.go().endings()
    assert sum(endings.values()) == generations
    assert set(endings) <= {"succeeded", "reused"}
    lab.check_all_bought_once(generations)
    assert lab.posts == generations


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_a_signal_jobs_in_flight_are_stored_and_nothing_more_is_bought(
    open_lab: OpenLab, number: signal.Signals
) -> None:
    lab = open_lab(fixed_latency_s=2.0)
    lab.write("fruit", GENERATIONS)
    with RunProcess(lab, SEGMIND_REQUESTS_PER_MINUTE="12000") as run:
        run.go()
        in_flight(lab, IN_FLIGHT)
        told_at = time.time()
        run.signal(number)
        code, _, err = run.ended(within_s=20)
    assert code != 0
    assert [late for late in bought_after(lab, told_at) if late > AT_ONCE_S] == []
    # all of it landed: what the sandbox charged is stored, and the rest was never sent
    assert set(lab.states()) == {"succeeded", "planned"}, err
    assert lab.states().count("succeeded") == lab.charges == lab.posts >= IN_FLIGHT
    lab.check_money()
    finish(lab, GENERATIONS)


def test_after_a_signal_slow_jobs_are_left_to_the_next_run(open_lab: OpenLab) -> None:
    lab = open_lab(fixed_latency_s=3.5)
    lab.write("fruit", 120)
    with RunProcess(lab, SEGMIND_REQUESTS_PER_MINUTE="6000", DRAIN_S="1") as run:
        run.go()
        in_flight(lab, 60)
        told_at = time.time()
        run.signal(signal.SIGINT)
        assert run.ended(within_s=20)[0] != 0
        assert time.time() - told_at < 5
    # the scouts of a model that is new to the ledger were stored before the others were sent
    assert set(lab.states()) <= {"submitting", "submitted", "planned", "succeeded"}
    assert lab.states().count("submitted") >= 60
    finish(lab, 120)


def test_calls_waiting_for_a_connection_are_not_sent_after_the_signal(open_lab: OpenLab) -> None:
    # a v1 call holds its connection until its job is done
    lab = open_lab(fixed_latency_s=2.5)
    lab.write("fruit", 400, models=[V1])
    with RunProcess(lab, SEGMIND_REQUESTS_PER_MINUTE="60000", SEGMIND_V1_TIMEOUT_SECONDS="20") as run:
        run.go()
        in_flight(lab, 150)
        told_at = time.time()
        run.signal(signal.SIGINT)
        assert run.ended(within_s=30)[0] != 0
    assert [late for late in bought_after(lab, told_at) if late > AT_ONCE_S] == []
    assert set(lab.states()) == {"succeeded", "planned"}
    finish(lab, 400)


def test_two_signals_at_once_count_as_one(open_lab: OpenLab) -> None:
    # a terminal sends Ctrl-C to the whole group, and a parent process passes it on
    lab = open_lab(fixed_latency_s=1.5)
    lab.write("fruit", GENERATIONS)
    with RunProcess(lab, SEGMIND_REQUESTS_PER_MINUTE="12000") as run:
        run.go()
        in_flight(lab, IN_FLIGHT)
        told_at = time.time()
        run.signal(signal.SIGINT)
        until(lambda: time.time() - told_at > 0.1)
        run.signal(signal.SIGINT)
        assert run.ended(within_s=20)[0] != 0
    assert set(lab.states()) == {"succeeded", "planned"}
    assert lab.states().count("succeeded") == lab.charges >= IN_FLIGHT
    finish(lab, GENERATIONS)


def test_a_run_that_only_waits_for_another_one_stops_at_once(open_lab: OpenLab) -> None:
    lab = open_lab(fixed_latency_s=0.1)
    lab.write("fruit", 3)
    gap = {"STOP_AT": "after the claim, before the POST", "ARRIVALS": "3"}
    with runs(lab, gap, {}) as (frozen, waiting):
        frozen.go().until_stopped()
        waiting.go()
        until(lambda: len(owners(lab)) == 2)
        told_at = time.time()
        waiting.signal(signal.SIGINT)
        assert waiting.ended(within_s=30)[0] != 0
        assert time.time() - told_at < 5
        frozen.signal(signal.SIGCONT)
        assert frozen.endings() == {"succeeded": 3}
    lab.check_all_bought_once(3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_a_plain_script_drains_too(open_lab: OpenLab, number: signal.Signals) -> None:
    lab = open_lab(fixed_latency_s=1.5)
    lab.write("fruit", GENERATIONS)
    environ = {**os.environ, **lab.environ, "SEGMIND_REQUESTS_PER_MINUTE": "6000"}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=lab.folder, env=environ, stderr=subprocess.PIPE, text=True
    ) as script:
        try:
            in_flight(lab, 100)
            told_at = time.time()
            script.send_signal(number)
            err = script.communicate(timeout=30)[1]
        finally:
            script.kill()
    assert script.returncode != 0
    assert [late for late in bought_after(lab, told_at) if late > AT_ONCE_S] == []
    assert set(lab.states()) == {"succeeded", "planned"}, err
    again = subprocess.run([sys.executable, "-c", SCRIPT], cwd=lab.folder, env=environ, timeout=60, check=False)
    assert again.returncode == 0
    lab.check_all_bought_once(GENERATIONS)
