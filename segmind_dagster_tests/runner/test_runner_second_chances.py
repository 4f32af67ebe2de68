"""What a later run makes of what an earlier one left: retried where it was free, finished where it was paid."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from lab.clocks import QuickClock
from lab.project import V1, V2

from segmind_dagster.ledger import Caps, leases, moves, reads
from segmind_dagster.runner.poll_schedule import PollSchedule
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.runner_project import Lab


@pytest.mark.parametrize("kind", ["invalid", "failed_validation"])
def test_a_persons_run_tries_a_permanent_failure_once_more(open_lab: OpenLab, kind: str) -> None:
    lab = open_lab(faults=Faults(script=[kind]))
    key = lab.write("fruit", 2)
    assert lab.generate(key).models[0].endings == {"succeeded": 1, "failed": 1}
    assert lab.generate(key).models[0].endings == {"reused": 1, "succeeded": 1}
    lab.check_all_bought_once(2)


@pytest.mark.parametrize("is_by_person", [True, False])
def test_a_free_failure_is_tried_again_by_the_next_run(open_lab: OpenLab, *, is_by_person: bool) -> None:
    lab = open_lab(faults=Faults(script=["failed"] * 3))
    key = lab.write("fruit", 1)
    assert lab.generate(key).models[0].endings == {"failed": 1}
    assert lab.generate(key, is_by_person=is_by_person).models[0].endings == {"succeeded": 1}
    lab.check_all_bought_once(1)


def test_a_free_failure_is_not_retried_while_a_cap_refuses_it(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["failed"] * 3))
    key = lab.write("fruit", 1)
    lab.generate(key)
    report = lab.generate(key, settings=lab.settings(SEGMIND_RUN_BUDGET_USD="0.000001"))
    assert (report.stopped_by, lab.posts, lab.states()) == ("over_budget", 3, ["failed"])


def test_an_intent_of_a_dead_run_is_looked_up_and_then_bought_by_the_next_run(lab: Lab) -> None:
    key = lab.write("fruit", 3)
    lab.generate(key, settings=lab.settings(SEGMIND_RUN_BUDGET_USD="0.000001"))
    row = lab.generations()[0]
    with lab.ledger() as ledger:
        ledger.write(
            moves.claim,
            generation_id=row["generation_id"],
            owner="a run that is gone",
            run_id=None,
            prompt_set=key,
            reserved_usd=Decimal("0.1"),
            caps=Caps(day_usd=Decimal(1)),
            rate_wait_ms=0,
            now=datetime.now(UTC) - timedelta(minutes=10),
        )
    (result,) = lab.generate(key).models
    assert result.endings == {"succeeded": 3}
    assert lab.server.account()["requests"]["history"] > 0
    assert sorted(row["state"] for row in lab.attempts()) == ["absent", *["succeeded"] * 3]
    lab.check_all_bought_once(3)


def test_a_run_that_began_after_the_lookup_is_not_taken_for_dead(lab: Lab) -> None:
    key = lab.write("fruit", 1)
    lab.generate(key, settings=lab.settings(SEGMIND_RUN_BUDGET_USD="0.000001"))
    (row,) = lab.generations()
    now = datetime.now(UTC)
    with lab.ledger() as ledger:
        is_alive = ledger.liveness()
        one = leases.Process(leases.place(), 1, None)
        ledger.write(
            leases.record_lease, owner="another", run_id=None, process=one, at_s=leases.since_boot_s(), now=now
        )
        ledger.write(
            moves.claim, generation_id=row["generation_id"], owner="another", run_id=None, prompt_set=key,
            reserved_usd=Decimal("0.01"), caps=Caps(day_usd=Decimal(1)), rate_wait_ms=0, now=now,
        )  # fmt: skip
        found = ledger.read(reads.snapshot, [row["generation_id"]], is_alive=is_alive)
    assert found[row["generation_id"]].is_owner_alive


def test_sets_that_share_a_generation_in_one_run_report_its_cost_once(lab: Lab) -> None:
    report = lab.generate(lab.write("fruit", ["a pear", "a plum"]), lab.write("harvest", ["a plum", "a fig"]))
    fruit, harvest = report.models
    assert (fruit.endings, harvest.endings) == ({"succeeded": 2}, {"reused": 1, "succeeded": 1})
    assert fruit.cost_usd + harvest.cost_usd == lab.charged_usd
    (plum,) = [row["cost_usd"] for row in lab.generations() if row["prompt"] == "a plum"]
    assert (fruit.saved_usd, harvest.saved_usd) == (0, plum)


def test_a_lost_submission_is_not_confused_with_an_equal_one_in_flight(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["reset_before_accept"]), fixed_latency_s=0.5)
    key = lab.write("fruit", ["a pear"], models=[V1], seed=-1, samples=2)
    report = lab.generate(key, settings=lab.settings(SEGMIND_UNKNOWN_SETTLE_SECONDS="1"))
    assert report.stopped_by is None
    lab.check_all_bought_once(2)


def test_lost_submissions_with_equal_bodies_get_different_requests(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["accepted_then_reset"] * 3))
    lab.generate(lab.write("words", ["a poem"], models=["llama_v3p1_8b_instruct"], samples=4))
    assert lab.posts == 4
    lab.check_all_bought_once(4)


def test_a_request_found_only_in_the_history_is_booked_with_its_cost(open_lab: OpenLab) -> None:
    lab = open_lab(record_ttl_s=0.0, fixed_latency_s=0.0)
    lab.generate(lab.write("fruit", 2, models=[V2]))
    lab.check_all_bought_once(2)
    assert {row["cost_source"] for row in lab.attempts()} == {"history"}


def test_a_deleted_file_is_booked_with_the_cost_in_the_history(open_lab: OpenLab) -> None:
    lab = open_lab(record_ttl_s=0.0, file_ttl_s=0.0, fixed_latency_s=0.0)
    key = lab.write("fruit", 1)
    for _ in range(2):
        assert lab.generate(key).models[0].failures == {"expired": 1}
        lab.check_money()
    assert lab.charges == 1


def test_a_job_that_failed_between_two_runs_is_free_and_retried(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_s = [0.0]
    lab = open_lab(faults=Faults(script=["stuck"]), clock=lambda: time.time() + ahead_s[0])
    key = lab.write("fruit", 1)
    with monkeypatch.context() as patched:
        patched.setattr(PollSchedule, "deadline_s", lambda _: 0.3)
        assert lab.generate(key).models[0].endings == {"running": 1}
    ahead_s[0] = 3700
    later = QuickClock(ahead=timedelta(seconds=3700))
    (result,) = lab.generate(key, clock=later).models
    assert (result.endings, result.failures) == ({"failed": 1}, {"job_failed": 1})
    assert (lab.charges, lab.committed_usd()) == (0, 0)
    assert lab.generate(key, clock=later).models[0].endings == {"succeeded": 1}
    lab.check_all_bought_once(1)
