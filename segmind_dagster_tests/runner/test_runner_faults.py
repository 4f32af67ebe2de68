"""Every way the provider can misbehave, one by one: one charge a generation, everything stored, exact money."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from lab.clocks import QuickClock
from lab.project import V1, V2
from lab.proxy import HISTORY, Proxy

from segmind_dagster.gateway import client
from segmind_dagster.runner import buying
from segmind_dagster.runner.poll_schedule import PollSchedule
from segmind_dagster.sandbox import Faults, Lies, ScriptedFault

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.runner_project import Lab

# POSTs for three generations when the first one sent meets the fault
ENDS_WELL = {
    "rate_limited": 4,
    "server_error": 4,
    "unavailable": 4,
    "bad_gateway": 4,
    "reset_before_accept": 4,
    "teapot": 4,
    "gateway_timeout": 3,
    "accepted_then_reset": 3,
    "accepted_unreadable": 3,
    "accepted_202": 3,
    "poll_error": 3,
    "poll_reset": 3,
    "failed": 4,
    "truncated": 3,
    "html_as_image": 3,
    "output_missing": 3,
    "slow": 3,
}
STOPS_THE_RUN = ("unauthorized", "no_credits", "team_limit")


@pytest.fixture
def faulty(open_lab: OpenLab) -> Any:
    """A lab whose first submissions meet these faults."""

    def opened(*script: str | ScriptedFault, **sandbox: Any) -> Lab:
        faults = Faults(script=script, rate_limit_reset_s=0.1, slow_s=0.05)
        return open_lab(faults=faults, **sandbox)

    return opened


@pytest.mark.parametrize("resource", [V1, V2])
@pytest.mark.parametrize("kind", ENDS_WELL)
def test_after_a_fault_the_same_run_still_buys_each_generation_once(faulty: Any, kind: str, resource: str) -> None:
    lab = faulty(kind)
    lab.publish_short_latencies()
    key = lab.write("fruit", 3, models=[resource])
    (result,) = lab.generate(key).models
    assert result.endings == {"succeeded": 3}
    assert lab.posts == ENDS_WELL[kind]
    assert result.cost_usd == lab.charged_usd
    lab.check_all_bought_once(3)
    assert len(lab.attempts()) == lab.posts
    lab.generate(key)
    assert lab.posts == ENDS_WELL[kind]


@pytest.mark.parametrize("kind", ["teapot", "accepted_202", "failed", "truncated"])
def test_a_fault_that_occurs_twice_is_handled_like_one(faulty: Any, kind: str) -> None:
    lab = faulty(kind, kind)
    key = lab.write("fruit", 4)
    lab.generate(key)
    lab.collect()
    lab.generate(key)
    assert len(lab.attempts()) == lab.posts
    lab.check_all_bought_once(4)


@pytest.mark.parametrize("resource", [V1, V2])
@pytest.mark.parametrize("kind", STOPS_THE_RUN)
def test_an_account_error_stops_the_run_and_the_next_one_continues(faulty: Any, kind: str, resource: str) -> None:
    lab = faulty(kind)
    key = lab.write("fruit", 3, models=[resource])
    report = lab.generate(key, settings=lab.settings(SEGMIND_MAX_IN_FLIGHT="1"))
    assert report.stopped_by == kind
    assert report.stop_message
    assert (report.models[0].endings, report.models[0].is_complete) == ({"held_back": 3}, False)
    assert (lab.posts, lab.charges, lab.states()) == (1, 0, ["planned"] * 3)
    assert lab.committed_usd() == 0
    assert lab.generate(key).stopped_by is None
    lab.check_all_bought_once(3)


def test_jobs_in_flight_are_stored_when_a_run_stops(faulty: Any) -> None:
    lab = faulty("ok", "ok", "team_limit", fixed_latency_s=0.3)
    report = lab.generate(lab.write("fruit", 3))
    assert (report.stopped_by, report.models[0].endings) == ("team_limit", {"succeeded": 2, "held_back": 1})
    lab.check_money()


@pytest.mark.parametrize(
    ("kind", "resource", "failure_kind"),
    [
        ("invalid", V2, "invalid_request"),
        ("invalid", V1, "invalid_request"),
        ("failed_validation", V2, "invalid_job"),
        ("failed_validation", V1, "invalid_request"),
    ],
)
def test_a_permanent_failure_is_sent_once_and_says_what_was_refused(
    faulty: Any, kind: str, resource: str, failure_kind: str
) -> None:
    lab = faulty(kind)
    (result,) = lab.generate(lab.write("fruit", 3, models=[resource])).models
    assert result.endings == {"succeeded": 2, "failed": 1}
    assert result.failures == {failure_kind: 1}
    assert len(result.examples) == 1
    assert (result.is_complete, lab.posts, lab.charges) == (True, 3, 2)
    lab.check_money()


def test_a_sensors_run_leaves_a_permanent_failure_alone(faulty: Any) -> None:
    lab = faulty("invalid")
    key = lab.write("fruit", 1)
    lab.generate(key)
    (result,) = lab.generate(key, is_by_person=False).models
    assert (result.endings, lab.posts) == ({"left": 1}, 1)


@pytest.mark.parametrize(
    ("kind", "resource", "failure_kind", "posts"),
    [
        ("failed", V2, "job_failed", 3),
        # listed as failed: that says it all
        ("failed", V1, "server_error", 3),
    ],
)
def test_free_failures_are_retried_a_bounded_number_of_times(
    faulty: Any, kind: str, resource: str, failure_kind: str, posts: int
) -> None:
    lab = faulty(*[kind] * 10)
    lab.publish_short_latencies()
    (result,) = lab.generate(lab.write("fruit", 1, models=[resource])).models
    assert (result.endings, result.failures, result.cost_usd) == ({"failed": 1}, {failure_kind: 1}, 0)
    assert (lab.posts, lab.charges) == (posts, 0)
    assert lab.committed_usd() == 0


@pytest.mark.parametrize("resource", [V1, V2])
def test_an_output_that_never_decodes_is_paid_for_and_fetched_again_but_not_bought_again(
    faulty: Any, resource: str
) -> None:
    lab = faulty("undecodable")
    key = lab.write("fruit", 1, models=[resource])
    (result,) = lab.generate(key).models
    assert (result.endings, result.failures) == ({"failed": 1}, {"bad_output": 1})
    assert result.cost_usd == lab.charged_usd > 0
    lab.check_money()
    fetched = lab.server.account()["requests"]["output"]
    (result,) = lab.generate(key).models
    assert result.endings == {"failed": 1}
    assert (lab.posts, lab.charges) == (1, 1)
    assert lab.server.account()["requests"]["output"] > fetched
    lab.check_money()


@pytest.mark.parametrize("kind", ["server_error", "unavailable"])
def test_a_server_error_is_retried_a_bounded_number_of_times(faulty: Any, kind: str) -> None:
    lab = faulty(ScriptedFault(kind=None), *[kind] * 10)
    lab.generate(lab.write("seen", 1, models=[V1]))
    (result,) = lab.generate(lab.write("fruit", ["a plum"], models=[V1])).models
    assert (result.endings, result.failures, result.cost_usd) == ({"failed": 1}, {"server_error": 1}, 0)
    assert (lab.posts, lab.charges) == (4, 1)
    lab.check_money()


def test_an_empty_history_shows_of_one_error_at_most_that_it_made_no_job(faulty: Any) -> None:
    """One is sent again to find out whether the history lists anything."""
    lab = faulty(*["accepted_then_503"] * 3, lies=Lies(empty_readings=None))
    lab.publish_short_latencies()
    key = lab.write("fruit", 3, models=[V1])
    assert lab.generate(key).models[0].endings == {"unknown": 2, "succeeded": 1}
    assert lab.generate(key).models[0].endings == {"unknown": 2, "reused": 1}
    assert (lab.posts, lab.charges) == (4, 4)


@pytest.mark.parametrize("count", [6, 12])
def test_calls_that_wait_for_the_history_keep_no_connection_from_others(
    faulty: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(buying, "_V1_AT_ONCE", 3)
    lab = faulty(*["unavailable"] * (count - 2))
    lab.publish_short_latencies()
    key = lab.write("fruit", count, models=[V1])
    assert lab.generate(key).models[0].endings["succeeded"] >= count / 2
    # where nothing was accepted while they waited, only one of them has found out in the first run
    lab.generate(key)
    lab.check_all_bought_once(count)


@pytest.mark.parametrize("kind", ["server_error", "unavailable", "rate_limited"])
def test_an_error_that_nothing_explains_leaves_the_outcome_unknown_and_the_cost_reserved(
    faulty: Any, kind: str
) -> None:
    lab = faulty(kind)
    lab.publish_short_latencies()
    key = lab.write("fruit", 1, models=[V1])
    with Proxy(lab.server.url, is_platform=True) as proxy:
        proxy.statuses[HISTORY] = 502
        (result,) = lab.generate(key, settings=lab.settings(SEGMIND_PLATFORM_URL=proxy.url)).models
    assert (result.endings, result.cost_usd) == ({"unknown": 1}, 0)
    assert (lab.posts, lab.charges, lab.states()) == (1, 0, ["unknown"])
    assert lab.committed_usd() > 0
    assert lab.generate(key).models[0].endings == {"succeeded": 1}
    lab.check_all_bought_once(1)


def test_a_broken_output_is_never_stored_as_an_output(faulty: Any) -> None:
    lab = faulty("undecodable")
    lab.generate(lab.write("fruit", 1))
    kept = [path for path in (lab.folder / "data" / "outputs").rglob("*") if path.is_file()]
    assert {path.parts[-3] for path in kept} == {"quarantine"}
    assert list((lab.folder / "data" / ".partial").iterdir()) == []


@pytest.mark.parametrize("resource", [V1, V2])
def test_a_submission_without_an_answer_is_found_in_the_history(
    faulty: Any, resource: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "Gateway", partial(client.Gateway, submit_timeout_s=0.5))
    lab = faulty("accepted_then_hang")
    settings = lab.settings(SEGMIND_V1_TIMEOUT_SECONDS="0.5")
    (result,) = lab.generate(lab.write("fruit", 2, models=[resource]), settings=settings).models
    assert (result.endings, lab.posts) == ({"succeeded": 2}, 2)
    lab.check_all_bought_once(2)


def test_a_job_that_does_not_finish_is_left_to_a_later_run_and_not_bought_again(
    faulty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PollSchedule, "deadline_s", lambda _: 0.3)
    lab = faulty("stuck")
    key = lab.write("fruit", 1)
    (result,) = lab.generate(key).models
    assert (result.endings, result.is_complete) == ({"running": 1}, False)
    assert (lab.states(), lab.posts) == (["submitted"], 1)
    assert lab.committed_usd() > 0
    assert lab.generate(key, clock=QuickClock(ahead=timedelta(minutes=11))).models[0].endings == {"running": 1}
    assert lab.posts == 1


def test_many_faults_of_every_kind_end_with_one_charge_per_generation(open_lab: OpenLab) -> None:
    rates = dict.fromkeys(
        [
            "rate_limited", "server_error", "bad_gateway", "gateway_timeout", "accepted_then_reset", "teapot",
            "accepted_unreadable", "accepted_202", "reset_before_accept", "poll_error", "poll_reset", "truncated",
            "html_as_image", "output_missing",
        ],
        0.05,
    )  # fmt: skip
    lab = open_lab(faults=Faults(rates=rates, seed=7, rate_limit_reset_s=0.05))
    key = lab.write("storm", 60, models=[V1, V2])
    lab.generate(key)
    # nothing is submitted after the last ones, so that there is no control: that takes longer
    lab.collect()
    lab.generate(key)
    lab.check_all_bought_once(120)


def test_a_job_made_despite_an_error_and_listed_late_is_adopted_by_the_next_run(faulty: Any) -> None:
    lab = faulty("accepted_then_503", lies=Lies(lag_s=2.0))
    key = lab.write("fruit", 1)
    with Proxy(lab.server.url, is_platform=True) as proxy:
        proxy.statuses[HISTORY] = 502
        lab.generate(key, settings=lab.settings(SEGMIND_PLATFORM_URL=proxy.url))
    assert lab.states() == ["unknown"]
    settings = lab.settings(SEGMIND_UNKNOWN_SETTLE_SECONDS="1")
    assert lab.generate(key, settings=settings).models[0].endings == {"succeeded": 1}
    assert lab.posts == 1
    lab.check_all_bought_once(1)


@pytest.mark.parametrize("count", [1, 3])
def test_a_job_made_despite_a_429_and_listed_late_is_adopted(faulty: Any, count: int) -> None:
    lab = faulty(*["accepted_then_429"] * count, lies=Lies(lag_s=0.6))
    settings = lab.settings(SEGMIND_UNKNOWN_SETTLE_SECONDS="1")
    report = lab.generate(lab.write("fruit", count), settings=settings)
    assert report.models[0].endings == {"succeeded": count}
    assert lab.posts == count
    lab.check_all_bought_once(count)


@pytest.mark.parametrize("status", [400, 406, 422])
def test_a_job_made_despite_an_error_and_listed_late_is_adopted_by_a_run_that_follows_at_once(
    faulty: Any, status: int
) -> None:
    lab = faulty(f"accepted_then_{status}", lies=Lies(lag_s=0.6))
    key = lab.write("fruit", 1)
    settings = lab.settings(SEGMIND_UNKNOWN_SETTLE_SECONDS="1")
    assert lab.generate(key, settings=settings).models[0].endings == {"failed": 1}
    lab.generate(key, settings=settings)
    lab.collect()
    assert lab.posts == 1
    lab.check_all_bought_once(1)


def test_a_job_that_outlasts_the_settling_time_is_adopted_though_only_finished_ones_are_listed(faulty: Any) -> None:
    lab = faulty("accepted_then_429", lies=Lies(finished_only=True), fixed_latency_s=1.0)
    assert lab.generate(lab.write("fruit", 1)).models[0].endings == {"succeeded": 1}
    assert lab.posts == 1
    lab.check_all_bought_once(1)


def test_a_429_to_the_only_generation_is_sent_again_by_the_same_run(faulty: Any) -> None:
    lab = faulty("rate_limited")
    lab.publish_short_latencies()
    assert lab.generate(lab.write("fruit", 1, models=[V1])).models[0].endings == {"succeeded": 1}
    assert lab.posts == 2


def test_waiting_for_the_history_does_not_block_other_generations(open_lab: OpenLab) -> None:
    """A model that never delivered lets three go ahead; each of these waits until the history must list its job."""
    lab = open_lab(faults=Faults(script=["unavailable"] * 3))
    settings = lab.settings(SEGMIND_UNKNOWN_SETTLE_SECONDS="2")
    lab.generate(lab.write("fruit", 5), settings=settings)
    lab.check_all_bought_once(5)
    sent = sorted(lab.attempts(), key=lambda row: row["intent_at"])
    assert [row["attempt"] for row in sent] == [1] * 5 + [2] * 3
