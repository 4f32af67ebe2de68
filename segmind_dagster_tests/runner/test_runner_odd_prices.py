"""A cost out of all proportion: believed for the books, and a question before anything more is bought."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from lab.project import V1, V2
from lab.proxy import JOBS, Proxy, serving

from segmind_dagster.sandbox import Lies


def costing(usd: Any) -> Any:
    def say(document: Any) -> Any:
        if isinstance(document, dict) and "metrics" in document:
            document["metrics"]["cost"] = usd
        return document

    return say


def behind(lab: Any, proxy: Proxy) -> None:
    lab.environ |= {
        "SEGMIND_API_URL": proxy.url,
        "SEGMIND_PLATFORM_URL": lab.server.url,
        "SEGMIND_OUTPUT_HOSTS": lab.server.url.split("//")[1],
        "SEGMIND_MAX_IN_FLIGHT": "1",
        "SEGMIND_RUN_BUDGET_USD": "1000",
        "SEGMIND_DAILY_BUDGET_USD": "1000",
    }


def test_an_odd_price_is_booked_stops_one_run_and_lets_the_next_one_continue(open_lab: Any) -> None:
    lab = open_lab()
    with Proxy(lab.server.url) as proxy:
        behind(lab, proxy)
        proxy.answers[JOBS] = costing(7.5)
        first = lab.generate(lab.write("fruit", 5))
        bought = lab.posts
        assert bought <= 3
        assert first.stopped_by == "over_budget"
        assert first.models[0].endings["held_back"] == 5 - bought
        message = str(first.stop_message)
        request_ids = [row["request_id"] for row in lab.attempts()]
        assert any(request_id in message for request_id in request_ids)
        for word in ("fast-flux-schnell", "$7.5000", "'fruit'", "max_unit_cost_usd", "materialize"):
            assert word in message
        assert {row["cost_usd"] for row in lab.attempts()} == {Decimal("7.5")}
        second = lab.generate("fruit")
    assert (second.stopped_by, second.stop_message) == (None, None)
    assert lab.states() == ["succeeded"] * 5
    assert lab.committed_usd() == Decimal("37.5")


def test_an_odd_price_of_an_unusable_output_stops_the_run_too(open_lab: Any) -> None:
    lab = open_lab()
    with Proxy(lab.server.url) as proxy:
        behind(lab, proxy)
        lab.environ["SEGMIND_OUTPUT_HOSTS"] = proxy.url.split("//")[1]
        proxy.answers[JOBS] = costing("3")
        proxy.outputs = [serving(b"no picture")]
        report = lab.generate(lab.write("fruit", 4))
        assert "Is this the price?" in str(report.stop_message)
        assert lab.posts <= 2
        proxy.outputs = [None]
        again = lab.generate("fruit")
    assert "Is this the price?" not in str(again.stop_message)


@pytest.mark.parametrize("usd", [0.2, 0, None, "NaN", float("nan"), -5, 1e9, "a lot"])
def test_a_higher_or_nonsensical_price_does_not_stop_the_run(open_lab: Any, usd: Any) -> None:
    lab = open_lab()
    with Proxy(lab.server.url) as proxy:
        behind(lab, proxy)
        proxy.answers[JOBS] = costing(usd)
        report = lab.generate(lab.write("fruit", 2))
    assert report.stop_message is None
    assert report.models[0].endings == {"succeeded": 2}


@pytest.mark.parametrize("model", [V1, V2])
def test_a_usual_price_does_not_stop_the_run(open_lab: Any, model: str) -> None:
    lab = open_lab()
    assert lab.generate(lab.write("fruit", 3, models=[model])).stop_message is None


def test_an_odd_price_from_the_history_stops_the_run_too(open_lab: Any) -> None:
    lab = open_lab(lies=Lies(price_factor=100, cost_in_results="absent"), price_jitter=False)
    report = lab.generate(lab.write("fruit", 2))
    assert report.stopped_by == "over_budget"
    assert "Is this the price?" in str(report.stop_message)
    assert {row["cost_source"] for row in lab.attempts()} == {"history"}
