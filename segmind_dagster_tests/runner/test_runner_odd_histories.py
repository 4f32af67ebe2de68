"""Histories whose times or bodies differ from what was sent: what cannot be told apart is never bought twice."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from lab.clocks import QuickClock
from lab.project import V2
from lab.proxy import HISTORY, Proxy

from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT_MODEL = "llama_v3p1_8b_instruct"
# long enough for more than a page of newer requests to come in
SLOWLY = {"SEGMIND_UNKNOWN_SETTLE_SECONDS": "4"}


def each_row(change: Callable[[dict[str, Any]], None]) -> Callable[[Any], Any]:
    def answer(document: Any) -> Any:
        for row in document.get("data", [document]):
            change(row)
        return document

    return answer


def hours_behind_without_a_zone(row: dict[str, Any]) -> None:
    moment = datetime.fromisoformat(row["model_created"]) - timedelta(hours=7)
    row["model_created"] = moment.replace(tzinfo=None).isoformat()


def cut_prompt(row: dict[str, Any]) -> None:
    row["request_body"]["prompt"] = row["request_body"]["prompt"][:20]


def without_seed(row: dict[str, Any]) -> None:
    row["request_body"].pop("seed", None)


def nested_body(row: dict[str, Any]) -> None:
    row["request_body"] = {"inputs": row["request_body"]}


def test_a_fast_clock_on_a_busy_account_buys_nothing_twice(open_lab: Any) -> None:
    lab = open_lab(faults=Faults(script=["accepted_then_reset"]), environ=SLOWLY)
    report = lab.generate(lab.write("fruit", 200), clock=QuickClock(ahead=timedelta(minutes=10)))
    assert (lab.posts, lab.charges) == (200, 200)
    assert report.models[0].endings == {"succeeded": 200}


def test_a_history_in_another_time_zone_leads_to_no_second_charge(open_lab: Any) -> None:
    lab = open_lab(faults=Faults(script=["accepted_then_reset"]), environ=SLOWLY)
    with Proxy(lab.server.url, is_platform=True) as proxy:
        lab.environ["SEGMIND_PLATFORM_URL"] = proxy.url
        proxy.answers[HISTORY] = each_row(hours_behind_without_a_zone)
        lab.generate(lab.write("fruit", 200))
    assert (lab.posts, lab.charges) == (200, 200)


@pytest.mark.parametrize("change", [cut_prompt, without_seed, nested_body])
def test_a_body_changed_in_the_history_proves_no_absence(open_lab: Any, change: Callable[..., None]) -> None:
    lab = open_lab(faults=Faults(script=["accepted_then_reset"]))
    with Proxy(lab.server.url, is_platform=True) as proxy:
        lab.environ["SEGMIND_PLATFORM_URL"] = proxy.url
        proxy.answers[HISTORY] = each_row(change)
        report = lab.generate(lab.write("fruit", ["a rather long prompt about a castle"]))
    assert report.models[0].endings == {"unknown": 1}
    assert lab.charges == 1


def test_a_nested_value_that_comes_back_as_text_is_recognised(open_lab: Any) -> None:
    lab = open_lab(faults=Faults(script=["accepted_then_reset"]))

    def messages_as_text(row: dict[str, Any]) -> None:
        row["request_body"]["messages"] = json.dumps(row["request_body"]["messages"])

    with Proxy(lab.server.url, is_platform=True) as proxy:
        lab.environ["SEGMIND_PLATFORM_URL"] = proxy.url
        proxy.answers[HISTORY] = each_row(messages_as_text)
        lab.generate(lab.write("fruit", 1, models=[TEXT_MODEL]))
    lab.check_all_bought_once(1)


def test_a_foreign_request_with_another_prompt_blocks_nothing(open_lab: Any) -> None:
    lab = open_lab(faults=Faults(script=["reset_before_accept"]))
    with Proxy(lab.server.url, is_platform=True) as proxy:
        lab.environ["SEGMIND_PLATFORM_URL"] = proxy.url

        def and_a_colleagues(document: Any) -> Any:
            row = {
                "request_id": "theirs",
                "model_name": "fast-flux-schnell",
                "model_status": "COMPLETED",
                "model_created": QuickClock().now().isoformat(),
                "request_body": {"prompt": "quite another thing", "seed": 5, "aspect_ratio": "1:1"},
            }
            if document.get("data"):
                document["data"].append(row)
            return document

        proxy.answers[HISTORY] = and_a_colleagues
        lab.generate(lab.write("fruit", 3, models=[V2]))
    lab.check_all_bought_once(3)


def test_a_status_that_is_no_text_does_not_block_collecting(open_lab: Any) -> None:
    lab = open_lab(record_ttl_s=0.0)
    with Proxy(lab.server.url, is_platform=True) as proxy:
        lab.environ["SEGMIND_PLATFORM_URL"] = proxy.url
        proxy.answers[HISTORY] = each_row(lambda row: row.update(model_status=2))
        key = lab.write("fruit", 3)
        lab.generate(key)
        lab.generate(key)
    lab.check_all_bought_once(3)


@pytest.mark.parametrize("said", ["PENDING", "running ", "started"])
def test_a_job_listed_as_unfinished_is_not_given_up(open_lab: Any, said: str) -> None:
    lab = open_lab(record_ttl_s=0.0)
    status = {"model_status": said, "generation_url": None}
    with Proxy(lab.server.url, is_platform=True) as proxy:
        lab.environ["SEGMIND_PLATFORM_URL"] = proxy.url
        proxy.answers[HISTORY] = each_row(lambda row: row.update(status))
        key = lab.write("fruit", 1)
        report = lab.generate(key)
        assert report.models[0].endings == {"running": 1}
        assert not report.models[0].is_complete
        # Segmind keeps no record for so long: only the history says that it is not over
        report = lab.generate(key, clock=QuickClock(ahead=timedelta(hours=6)))
        assert report.models[0].endings == {"running": 1}
        status.clear()
        lab.generate(key)
    lab.check_all_bought_once(1)
