"""Submissions whose answer was lost: found in the history, proved absent, or left unknown; never bought blindly."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from lab.project import V1, V2
from lab.proxy import HISTORY, Proxy

from segmind_dagster.ledger import Caps, leases, moves
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import OpenLab
    from lab.runner_project import Lab


@pytest.fixture
def behind_proxy(open_lab: OpenLab) -> Iterator[Callable[..., tuple[Lab, Proxy]]]:
    """A lab whose platform is a proxy of the sandbox."""
    proxies: list[Proxy] = []

    def opened(*script: str, **sandbox: Any) -> tuple[Lab, Proxy]:
        lab = open_lab(faults=Faults(script=script), **sandbox)
        proxies.append(Proxy(lab.server.url, is_platform=True).__enter__())
        lab.environ["SEGMIND_PLATFORM_URL"] = proxies[-1].url
        return lab, proxies[-1]

    yield opened
    for proxy in proxies:
        proxy.__exit__()


@pytest.mark.parametrize("as_string", [True, False])
def test_a_lost_submission_is_adopted_whatever_form_the_historys_bodies_have(
    open_lab: OpenLab, *, as_string: bool
) -> None:
    script = ["accepted_then_reset", "accepted_202", "gateway_timeout"]
    lab = open_lab(history_body_as_string=as_string, faults=Faults(script=script))
    lab.generate(lab.write("fruit", 5))
    assert lab.posts == 5
    lab.check_all_bought_once(5)


def test_a_lost_submission_of_a_text_model_is_adopted(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["accepted_then_reset"]))
    lab.generate(lab.write("words", 2, models=["llama_v3p1_8b_instruct"]))
    assert lab.posts == 2
    lab.check_all_bought_once(2)


def test_a_provably_absent_submission_is_sent_again_once(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["reset_before_accept"]))
    lab.generate(lab.write("fruit", 3))
    first = lab.attempts()[0]
    (second,) = [each for each in lab.attempts() if each["attempt"] == 2]
    assert (first["state"], first["cost_usd"], first["cost_source"]) == ("absent", 0, "inferred")
    assert (second["generation_id"], second["state"]) == (first["generation_id"], "succeeded")
    assert (second["intent_at"] - first["intent_at"]).total_seconds() >= 0.15
    lab.check_all_bought_once(3)


def test_an_unproven_submission_is_left_to_a_collecting_run(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["ok", "reset_before_accept"]), environ={"SEGMIND_MAX_IN_FLIGHT": "1"})
    key = lab.write("fruit", 2)
    assert lab.generate(key).models[0].endings == {"succeeded": 1, "unknown": 1}
    assert [ended.ending for ended in lab.collect().values()] == ["held_back"]
    assert lab.states() == ["planned", "succeeded"]
    lab.generate(key)
    lab.check_all_bought_once(2)


@pytest.mark.parametrize("status", [500, 503, 404, 403])
def test_while_the_history_cannot_be_read_it_stays_unknown_and_is_collected_later(
    behind_proxy: Callable[..., tuple[Lab, Proxy]], status: int
) -> None:
    lab, proxy = behind_proxy("accepted_then_reset")
    proxy.statuses[HISTORY] = status
    key = lab.write("fruit", 3)
    (result,) = lab.generate(key).models
    assert (result.endings, result.failures) == ({"succeeded": 2, "unknown": 1}, {"unknown_outcome": 1})
    assert lab.generate(key).models[0].endings == {"reused": 2, "unknown": 1}
    assert (lab.posts, lab.charges) == (3, 3)
    assert lab.states() == ["succeeded", "succeeded", "unknown"]
    assert len(lab.committed_per_attempt()) == 3
    proxy.statuses.clear()
    (ended,) = lab.collect().values()
    assert ended.ending == "succeeded"
    assert lab.posts == 3
    lab.check_all_bought_once(3)


@pytest.mark.parametrize(
    "shape",
    [
        lambda _: {},
        lambda _: {"message": "no history today"},
        lambda document: {"data": [{**row, "request_id": None} for row in document["data"]]},
        lambda document: {**document, "data": [*document["data"], "not a row"]},
    ],
    ids=["empty", "no list", "rows without an id", "a row that is none"],
)
def test_an_unreadable_history_proves_nothing(
    behind_proxy: Callable[..., tuple[Lab, Proxy]], shape: Callable[[Any], Any]
) -> None:
    lab, proxy = behind_proxy("accepted_then_reset")
    proxy.answers[HISTORY] = shape
    assert lab.generate(lab.write("fruit", 1)).models[0].endings == {"unknown": 1}
    assert (lab.posts, lab.charges) == (1, 1)


def test_rows_with_unreadable_bodies_prevent_a_retry(
    behind_proxy: Callable[..., tuple[Lab, Proxy]],
) -> None:
    lab, proxy = behind_proxy("accepted_then_reset")
    proxy.answers[HISTORY] = lambda document: {
        **document,
        "data": [{**row, "request_body": "{cut off"} for row in document["data"]],
    }
    key = lab.write("fruit", 1)
    assert lab.generate(key).models[0].endings == {"unknown": 1}
    assert lab.posts == 1
    proxy.answers.clear()
    assert lab.generate(key).models[0].endings == {"succeeded": 1}
    lab.check_all_bought_once(1)


def test_a_row_of_another_body_is_not_adopted(behind_proxy: Callable[..., tuple[Lab, Proxy]]) -> None:
    lab, proxy = behind_proxy("reset_before_accept")
    stranger = {
        "request_id": "someone-elses",
        "model_name": "fast-flux-schnell",
        "request_body": {"prompt": "something else", "seed": 1},
        "model_created": datetime.now(UTC).isoformat(),
    }
    proxy.answers[HISTORY] = lambda document: {
        **document,
        "data": [stranger, *document["data"]] if document["data"] else [],
    }
    lab.generate(lab.write("fruit", 3))
    lab.check_all_bought_once(3)


@pytest.mark.parametrize("resource", [V1, V2])
def test_a_record_that_has_expired_is_found_through_the_history(open_lab: OpenLab, resource: str) -> None:
    """A run is killed right after its submission; the next one comes when only the history is left."""
    lab = open_lab(record_ttl_s=0.0, fixed_latency_s=0.0)
    key = lab.write("fruit", 2, models=[resource])
    report = lab.generate(key)
    assert report.models[0].endings == {"succeeded": 2}
    assert (lab.posts, lab.charges) == (2, 2)
    assert {row["request_id"] for row in lab.generations()} == lab.charged_requests()


def test_a_deleted_file_is_expired_paid_and_never_bought_again(open_lab: OpenLab) -> None:
    lab = open_lab(file_ttl_s=0.0)
    key = lab.write("fruit", 1)
    (result,) = lab.generate(key).models
    assert (result.endings, result.failures) == ({"failed": 1}, {"expired": 1})
    assert lab.generate(key).models[0].endings == {"failed": 1}
    assert lab.generate(key, is_by_person=False).models[0].endings == {"failed": 1}
    assert (lab.posts, lab.charges) == (1, 1)
    lab.check_money()


def test_collecting_covers_sets_whose_file_is_gone_and_buys_nothing(
    behind_proxy: Callable[..., tuple[Lab, Proxy]],
) -> None:
    lab, proxy = behind_proxy("accepted_then_reset", "reset_before_accept")
    proxy.statuses[HISTORY] = 503
    lab.generate(lab.write("fruit", 2))
    assert lab.states() == ["unknown", "unknown"]
    (lab.folder / "prompts" / "fruit.yaml").unlink()
    proxy.statuses.clear()
    endings = sorted(ended.ending for ended in lab.collect().values())
    assert endings == ["held_back", "succeeded"]
    assert (lab.posts, lab.charges, lab.states()) == (2, 1, ["planned", "succeeded"])
    lab.check_money()


def test_a_run_collects_what_another_set_left_behind(behind_proxy: Callable[..., tuple[Lab, Proxy]]) -> None:
    lab, proxy = behind_proxy("accepted_then_reset")
    proxy.statuses[HISTORY] = 503
    lab.generate(lab.write("fruit", 1))
    proxy.statuses.clear()
    lab.generate(lab.write("harvest", 1))
    assert lab.posts == 2
    lab.check_all_bought_once(2)


def test_collecting_ignores_every_budget(behind_proxy: Callable[..., tuple[Lab, Proxy]]) -> None:
    lab, proxy = behind_proxy("accepted_then_reset")
    proxy.statuses[HISTORY] = 503
    lab.generate(lab.write("fruit", 1))
    proxy.statuses.clear()
    caps = {"SEGMIND_RUN_BUDGET_USD": "0.000001", "SEGMIND_DAILY_BUDGET_USD": "0.000001"}
    (ended,) = lab.collect(settings=lab.settings(**caps)).values()
    assert ended.ending == "succeeded"
    lab.check_all_bought_once(1)


def test_collecting_nothing_sends_no_request(lab: Lab) -> None:
    assert lab.collect() == {}
    assert sum(lab.server.account()["requests"].values()) == 0


def test_a_generation_owned_by_a_live_run_is_left_alone(lab: Lab) -> None:
    other = lab.write("harvest", 1)
    lab.generate(other, settings=lab.settings(SEGMIND_RUN_BUDGET_USD="0.000001"))
    (row,) = lab.generations()
    now = datetime.now(UTC)
    with lab.ledger() as ledger:
        ledger.write(
            leases.record_lease, owner="another", run_id=None, process=leases.Process.this(),
            at_s=leases.since_boot_s(), now=now,
        )  # fmt: skip
        ledger.write(
            moves.claim, generation_id=row["generation_id"], owner="another", run_id=None, prompt_set=other,
            reserved_usd=Decimal("0.01"), caps=Caps(day_usd=Decimal(1)), rate_wait_ms=0, now=now,
        )  # fmt: skip
    assert lab.generate(lab.write("fruit", 1)).models[0].endings == {"succeeded": 1}
    assert lab.collect() == {}
    (left,) = [found for found in lab.generations() if found["prompt_set"] == other]
    assert (left["state"], left["owner"]) == ("submitting", "another")


@pytest.mark.parametrize("resource", [V1, V2])
def test_an_endpoint_that_never_answers_gets_a_few_posts_only(open_lab: OpenLab, resource: str) -> None:
    lab = open_lab(faults=Faults(rates={"reset_before_accept": 1.0}))
    report = lab.generate(lab.write("fruit", 40, models=[resource]))
    # those in flight when the eighth was lost
    assert 8 <= lab.posts <= 10
    assert report.models[0].endings == {"unknown": lab.posts, "held_back": 40 - lab.posts}
    assert "POSTs in a row got no answer" in str(report.stop_message)
