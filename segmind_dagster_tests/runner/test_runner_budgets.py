"""Caps that several runs share, prices that nobody reports, budgets that are lowered: what the sandbox charges."""

from __future__ import annotations

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from lab.project import V2
from lab.proxy import HISTORY, JOBS, Proxy

from segmind_dagster.ledger import entries, money
from segmind_dagster.ledger.costs import report_costs
from segmind_dagster.runner import file_budgets
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import OpenLab
    from lab.runner_project import Lab

SLUG = V2.replace("_", "-")
PRICE_USD = Decimal("0.00547")


def believed(lab: Lab, mean_usd: Decimal) -> None:
    with lab.ledger() as ledger:
        ledger.write(entries.record_model_prices, {SLUG: (mean_usd, None)}, now=datetime.now(UTC))


@contextmanager
def no_reported_costs(lab: Lab, history: str | None = None) -> Iterator[Proxy]:
    """Answers without a word of what they cost; the history is asked at `history`, the sandbox's own when None."""
    with Proxy(lab.server.url) as proxy:
        lab.environ |= {"SEGMIND_API_URL": proxy.url, "SEGMIND_PLATFORM_URL": history or lab.server.url}
        proxy.answers[JOBS] = lambda document: {name: document[name] for name in document if name != "metrics"}
        yield proxy


def test_six_runs_at_once_keep_to_the_day_cap_at_four_times_the_price(open_lab: OpenLab) -> None:
    lab = open_lab(price_jitter=False, fixed_latency_s=0.2, environ={"SEGMIND_DAILY_BUDGET_USD": "0.40"})
    believed(lab, PRICE_USD / 4)
    keys = [lab.write(f"fruit_{number}", 30) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        reports = list(pool.map(lambda key: lab.generate(key, run_id=key), keys))
    assert {report.stopped_by for report in reports} >= {"over_budget"}
    # to the last generation that fits
    assert lab.charged_usd == 73 * PRICE_USD <= Decimal("0.40")
    lab.check_money()


def test_runs_that_just_fit_one_day_cap_together_buy_everything(open_lab: OpenLab) -> None:
    cap_usd = 4 * 6 * PRICE_USD * Decimal("1.5")
    lab = open_lab(price_jitter=False, fixed_latency_s=0.2, environ={"SEGMIND_DAILY_BUDGET_USD": str(cap_usd)})
    keys = [lab.write(f"fruit_{number}", 6) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda key: lab.generate(key, run_id=key), keys))
    assert [dict(report.models[0].endings) for report in reports] == [{"succeeded": 6}] * 4
    lab.check_all_bought_once(24)


def test_a_tenfold_price_reported_only_by_the_history_exceeds_no_budget(open_lab: OpenLab) -> None:
    lab = open_lab(price_jitter=False)
    believed(lab, PRICE_USD / 10)
    estimate_usd = PRICE_USD / 10 * Decimal("1.5")
    budget_usd = Decimal("0.30")
    with no_reported_costs(lab):
        report = lab.generate(lab.write("fruit", 300, budget_usd=float(budget_usd)))
    assert report.stopped_by == "over_budget"
    assert lab.charged_usd <= budget_usd + 4 * estimate_usd
    # the history told what each one cost: the rest of the budget was used, and the books say what was charged
    assert lab.charged_usd > budget_usd - PRICE_USD
    assert {row["cost_source"] for row in lab.attempts()} == {"history"}
    assert report.models[0].cost_usd == lab.charged_usd
    assert report.models[0].estimated_usd == 0
    lab.check_money()


def test_an_unreported_cost_stays_a_cautious_estimate_and_the_run_ends(open_lab: OpenLab) -> None:
    lab = open_lab(price_jitter=False)
    believed(lab, PRICE_USD / 10)
    with Proxy(lab.server.url, is_platform=True) as history, no_reported_costs(lab, history.url):
        history.statuses[HISTORY] = 502
        report = lab.generate(lab.write("fruit", 40, budget_usd=0.04))
    # four at once; then a fifth to find out; each counts as ten times its estimate by then, which is more than it cost
    assert report.models[0].endings == {"succeeded": 5, "held_back": 35}
    assert "The set cap of $0.04 stands in the way" in str(report.stop_message)
    assert {row["cost_source"] for row in lab.attempts()} == {"estimated"}
    assert lab.charged_usd <= Decimal("0.04")


def test_the_history_is_not_read_for_costs_that_were_reported(open_lab: OpenLab) -> None:
    lab = open_lab()
    with Proxy(lab.server.url, is_platform=True) as history:
        lab.environ |= {"SEGMIND_PLATFORM_URL": history.url}
        lab.generate(lab.write("fruit", 5))
        # a run looks once before it buys
        assert [each for each in history.asked if HISTORY in each] == [f"GET {HISTORY}"]
    assert {row["cost_source"] for row in lab.attempts()} == {"reported"}


def test_many_unreported_costs_are_read_in_a_few_pages(open_lab: OpenLab) -> None:
    lab = open_lab(fixed_latency_s=0.1)
    with Proxy(lab.server.url, is_platform=True) as history, no_reported_costs(lab, history.url):
        (result,) = lab.generate(lab.write("fruit", 60)).models
        looks = len(history.asked)
    assert result.endings == {"succeeded": 60}
    assert result.cost_usd == lab.charged_usd
    assert looks < 40
    lab.check_money()


def test_a_cost_from_the_history_is_recorded_once(open_lab: OpenLab) -> None:
    lab = open_lab(price_jitter=False)
    with Proxy(lab.server.url, is_platform=True) as history, no_reported_costs(lab, history.url):
        history.statuses[HISTORY] = 502
        lab.generate(lab.write("fruit", 3))
    ids = [row["request_id"] for row in lab.attempts()]
    costs = dict.fromkeys(ids[:2], PRICE_USD * 2) | {"unheard of": PRICE_USD}
    with lab.ledger() as ledger:
        first = ledger.write(report_costs, costs, now=datetime.now(UTC))
        again = ledger.write(report_costs, costs, now=datetime.now(UTC))
        (price,) = ledger.read(money.reported_prices, [SLUG]).values()
    estimate_usd = PRICE_USD * Decimal("1.5")
    assert [each.difference_usd for each in first] == [PRICE_USD * 2 - estimate_usd] * 2
    assert again == []
    assert price.highest_usd == PRICE_USD * 2
    assert lab.committed_usd() == lab.committed_usd("set") == lab.committed_usd("run") == 4 * PRICE_USD + estimate_usd
    assert sorted(row["cost_source"] for row in lab.generations()) == ["estimated", "history", "history"]


def test_repeated_request_ids_under_a_cap_do_not_hang_the_run(open_lab: OpenLab) -> None:
    lab = open_lab(price_jitter=False, fixed_latency_s=0.1, faults=Faults(rates={"accepted_then_reset": 0.5}))
    with Proxy(lab.server.url, is_platform=True) as history:
        history.replace(HISTORY, "a page for people")
        lab.environ |= {"SEGMIND_PLATFORM_URL": history.url}
        report = lab.generate(lab.write("fruit", 40, budget_usd=0.33))
    endings = report.models[0].endings
    assert sum(endings.values()) == 40
    assert endings["unknown"] > 0


def edit(lab: Lab, key: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a prompt file, with a time of its own."""
    path = lab.folder / "prompts" / f"{key}.yaml"
    document = json.loads(path.read_text(encoding="utf-8"))
    text = change(document)
    path.write_text(text if isinstance(text, str) else json.dumps(document), encoding="utf-8")
    os.utime(path, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns + 10**9))


def lowered(document: dict[str, Any]) -> None:
    document["budget_usd"] = 0.05


def raised(document: dict[str, Any]) -> None:
    document["budget_usd"] = 50


def broken(_: dict[str, Any]) -> str:
    return "prompts: ["


def without_one(document: dict[str, Any]) -> None:
    del document["budget_usd"]


@pytest.mark.parametrize(
    ("change", "bought", "warnings"),
    [(lowered, None, 0), (raised, 60, 0), (broken, 60, 1), (without_one, 60, 0)],
    ids=["lowered", "raised", "broken", "without one"],
)
def test_a_budget_lowered_during_a_run_applies_to_what_is_not_sent(
    open_lab: OpenLab,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any]], Any],
    bought: int | None,
    warnings: int,
) -> None:
    monkeypatch.setattr(file_budgets, "_LOOK_EVERY_S", 0.05)
    environ = {"SEGMIND_MAX_IN_FLIGHT": "2", "SEGMIND_REQUESTS_PER_MINUTE": "1200"}
    lab = open_lab(price_jitter=False, fixed_latency_s=0.05, environ=environ)
    key = lab.write("fruit", 60, budget_usd=1)
    with Proxy(lab.server.url) as proxy, caplog.at_level(logging.WARNING):
        lab.environ |= {"SEGMIND_API_URL": proxy.url, "SEGMIND_PLATFORM_URL": lab.server.url}
        has_changed: list[bool] = []

        def say(document: dict[str, Any]) -> dict[str, Any]:
            if not has_changed:
                has_changed.append(True)
                edit(lab, key, change)
            return document

        proxy.answers[JOBS] = say
        report = lab.generate(key)
    if bought is None:
        assert report.stopped_by == "over_budget"
        assert "The set cap of $0.05 stands in the way" in str(report.stop_message)
        assert lab.charged_usd <= Decimal("0.05") + 4 * PRICE_USD
        return
    assert report.models[0].endings == {"succeeded": bought}
    assert sum("keeps to the budget" in record.getMessage() for record in caplog.records) == warnings
