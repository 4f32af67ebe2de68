"""A process that is frozen past its lease and woken again: another one has taken over, and nothing is bought twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from lab.project import V1, V2
from lab.run_process import SHORT_LEASE_S, runs

from segmind_dagster.errors import LoadLockError
from segmind_dagster.runner import Batch, plan_set
from segmind_dagster.source import locks
from segmind_dagster.source.locks import load_lock

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.runner_project import Lab

pytestmark = pytest.mark.kill

GENERATIONS = 12
LEASE = {"LEASE_S": str(SHORT_LEASE_S)}
HOLDS_THE_LOCK = """
import sys
from segmind_dagster.settings import load_settings
from segmind_dagster.source.locks import load_lock
with load_lock(load_settings(), purpose="loading still_life"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def left_behind(lab: Lab) -> list[str]:
    """Files in progress that nobody will finish."""
    return sorted(path.name for path in (lab.folder / "data" / ".partial").glob("*"))


@pytest.mark.parametrize(
    ("gap", "resource"),
    [
        ("after the rate limit, before the claim", V2),
        ("after the claim, before the lease is checked", V2),
        ("after the claim, before the POST", V2),
        ("amid the POST", V1),
        ("after the POST, before its answer is recorded", V1),
        ("after its answer is recorded, before the first poll", V2),
        ("after the result, before the fetch", V2),
        ("after the file is kept, before that is recorded", V2),
    ],
)
def test_a_run_resumed_after_its_lease_sends_nothing_for_lost_claims(
    open_lab: OpenLab, gap: str, resource: str
) -> None:
    environ = {
        # requests are sent one by one, so that some generations wait while others are in progress
        "SEGMIND_REQUESTS_PER_MINUTE": "3000",
        # a run that takes over stays open longer than a job takes, which here is as long as a lease
        "SEGMIND_UNKNOWN_SETTLE_SECONDS": str(SHORT_LEASE_S),
    }
    lab = open_lab(fixed_latency_s=0.3, price_jitter=False, environ=environ)
    lab.write("fruit", GENERATIONS, models=[resource])
    with runs(lab, {"STOP_AT": gap, **LEASE}, LEASE) as (frozen, other):
        frozen.go().until_stopped()
        taken_over = other.go().endings()
        posts = lab.posts
        frozen.signal(signal.SIGCONT)
        woken = frozen.endings()
    for endings in (taken_over, woken):
        assert sum(endings.values()) == GENERATIONS
        assert set(endings) <= {"succeeded", "reused"}
    assert lab.posts == posts
    lab.check_all_bought_once(GENERATIONS)
    assert left_behind(lab) == []


def test_reservations_of_a_frozen_run_do_not_block_the_set_budget(open_lab: OpenLab) -> None:
    # a busy machine takes longer than the usual settling time between two readings
    environ = {"SEGMIND_UNKNOWN_SETTLE_SECONDS": str(SHORT_LEASE_S)}
    lab = open_lab(fixed_latency_s=0.1, price_jitter=False, environ=environ)
    lab.write("fruit", GENERATIONS)
    with lab.ledger() as ledger:
        (plan,) = plan_set(ledger, lab.settings(), Batch(lab.prompt_set("fruit"), (V2,)))
    lab.write("fruit", GENERATIONS, budget_usd=float(plan.estimate.high_usd))
    with runs(lab, {"STOP_AT": "after the claim, before the lease is checked", **LEASE}, LEASE) as (frozen, other):
        frozen.go().until_stopped()
        assert set(other.go().endings()) <= {"succeeded", "reused"}
        frozen.signal(signal.SIGCONT)
        assert set(frozen.endings()) <= {"succeeded", "reused"}
    lab.check_all_bought_once(GENERATIONS)


def test_waiting_for_a_frozen_loader_names_it_and_is_bounded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_LOOK_EVERY_S", 0.05)
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_LOCK],
        env={**os.environ, **lab.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            holder.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
            with (
                pytest.raises(LoadLockError, match=rf"process {holder.pid} on .*loading still_life"),
                load_lock(lab.settings(), purpose="the next load", wait_s=0.5, say=said.append),
            ):
                pytest.fail("two loaders at once")
            assert re.search(rf"held by process {holder.pid} ", said[0])
            holder.send_signal(signal.SIGCONT)
            holder.communicate("\n", timeout=10)
            with load_lock(lab.settings(), purpose="the next load", wait_s=5, say=said.append):
                pass
        finally:
            holder.kill()
