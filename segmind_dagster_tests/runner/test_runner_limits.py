"""What keeps a run from spending: keys, credits, caps, unknown prices, an unreachable or foreign provider."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from lab.clocks import QuickClock
from lab.project import V1, V2

from segmind_dagster.errors import LedgerMissingError, OriginMismatchError, SettingsError
from segmind_dagster.ledger import entries
from segmind_dagster.runner import plan_set
from segmind_dagster.runner.generate import Batch
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.runner_project import Lab

# mean price of fast-flux-schnell, and what is reserved for one while nothing has been paid yet
USUAL_USD = Decimal("0.00547")
RESERVED_USD = USUAL_USD * Decimal("1.5")


def test_a_wrong_key_costs_no_post_and_one_clear_message(lab: Lab) -> None:
    report = lab.generate(lab.write("fruit", 3), settings=lab.settings(SEGMIND_API_KEY="SG_0123456789abcdef"))
    assert (report.stopped_by, report.models[0].endings) == ("unauthorized", {"held_back": 3})
    assert report.stop_message is not None
    assert "Check SEGMIND_API_KEY" in report.stop_message
    assert "SG_0123456789abcdef" not in report.stop_message
    assert (lab.posts, lab.states(), lab.committed_usd()) == (0, ["planned"] * 3, 0)


def test_without_a_key_nothing_is_changed(lab: Lab) -> None:
    with pytest.raises(SettingsError, match="SEGMIND_API_KEY"):
        lab.generate(lab.write("fruit", 1), settings=lab.settings(SEGMIND_API_KEY=""))
    with pytest.raises(SettingsError, match="SEGMIND_API_KEY"):
        lab.collect(settings=lab.settings(SEGMIND_API_KEY=""))
    assert not (lab.folder / "data").exists()


def test_an_empty_account_costs_no_post_and_topping_up_resumes(open_lab: OpenLab) -> None:
    lab = open_lab(initial_credits=Decimal("0.001"))
    key = lab.write("fruit", 3)
    report = lab.generate(key)
    assert (report.stopped_by, report.models[0].endings, lab.posts) == ("no_credits", {"held_back": 3}, 0)
    assert report.stop_message is not None
    assert "$0.0010" in report.stop_message
    assert "Top up" in report.stop_message
    lab.server.add_credits(Decimal(1))
    assert lab.generate(key).stopped_by is None
    lab.check_all_bought_once(3)


def test_an_exhausted_account_stops_the_run_and_keeps_its_outputs(open_lab: OpenLab) -> None:
    lab = open_lab(initial_credits=Decimal("0.02"), price_jitter=False, fixed_latency_s=0.0)
    key = lab.write("fruit", 8)
    report = lab.generate(key, settings=lab.settings(SEGMIND_MAX_IN_FLIGHT="1"))
    assert (report.stopped_by, report.models[0].endings) == ("no_credits", {"succeeded": 3, "held_back": 5})
    assert lab.posts == 4
    lab.check_money()
    lab.server.add_credits(Decimal(1))
    lab.generate(key)
    lab.check_all_bought_once(8)


@pytest.mark.parametrize(
    ("environ", "fields", "named"),
    [
        ({"SEGMIND_RUN_BUDGET_USD": "0.02"}, {}, ("The run cap of $0.02", "SEGMIND_RUN_BUDGET_USD")),
        ({}, {"budget_usd": 0.02}, ("The set cap of $0.02", "`budget_usd` in prompt set 'fruit'")),
        ({}, {"max_unit_cost_usd": 0.001}, ("`max_unit_cost_usd`", "is $0.001")),
    ],
)
def test_a_cap_is_all_or_nothing_before_the_first_post(
    lab: Lab, environ: dict[str, str], fields: dict[str, float], named: tuple[str, ...]
) -> None:
    report = lab.generate(lab.write("fruit", 3, **fields), settings=lab.settings(**environ))
    assert (report.stopped_by, report.models[0].endings, lab.posts) == ("over_budget", {"held_back": 3}, 0)
    assert report.stop_message is not None
    for words in named:
        assert words in report.stop_message
    assert lab.committed_usd() == 0


def test_the_refusal_of_a_cap_says_what_is_used_and_needed(lab: Lab) -> None:
    key = lab.write("fruit", 2, budget_usd=0.03)
    lab.generate(key)
    paid_usd = lab.charged_usd
    lab.write("fruit", 5, budget_usd=0.03)
    report = lab.generate(key)
    assert report.stop_message is not None
    assert f"${paid_usd:.4f} is spent and $0.0000 reserved by prompt set 'fruit'" in report.stop_message
    needed = f"'fruit' (3 generations of {V2}) needs up to ${3 * RESERVED_USD:.4f} more"
    assert needed in report.stop_message
    assert lab.charged_usd == paid_usd


def test_the_budget_of_a_set_counts_its_whole_life(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 3, budget_usd=0.03))
    report = lab.generate(lab.write("fruit", 6, budget_usd=0.03))
    assert report.stopped_by == "over_budget"
    assert report.models[0].endings == {"reused": 3, "held_back": 3}
    assert lab.posts == 3
    assert lab.generate(lab.write("fruit", 6, budget_usd=0.06)).stopped_by is None
    lab.check_all_bought_once(6)


def test_a_run_that_does_not_fit_its_cap_buys_nothing_of_any_set(lab: Lab) -> None:
    keys = [lab.write("fruit", 2), lab.write("harvest", 2)]
    report = lab.generate(*keys, settings=lab.settings(SEGMIND_RUN_BUDGET_USD=str(3 * RESERVED_USD)))
    assert report.stopped_by == "over_budget"
    assert [dict(result.endings) for result in report.models] == [{"held_back": 2}, {"held_back": 2}]
    assert lab.posts == 0


def test_a_set_over_its_budget_buys_nothing_of_any_model_and_leaves_other_sets_alone(lab: Lab) -> None:
    tight = lab.write("fruit", 2, models=[V1, V2], budget_usd=float(3 * RESERVED_USD))
    report = lab.generate(tight, lab.write("harvest", 2))
    endings = {(result.prompt_set, result.resource): dict(result.endings) for result in report.models if result.endings}
    assert endings[("fruit", V1)] == endings[("fruit", V2)] == {"held_back": 2}
    assert {"succeeded": 2} in [found for (key, _), found in endings.items() if key == "harvest"]
    assert lab.posts == 2


def test_the_cap_of_a_run_counts_what_the_same_run_spent_before(lab: Lab) -> None:
    tight = lab.settings(SEGMIND_RUN_BUDGET_USD=str(3 * RESERVED_USD))
    lab.generate(lab.write("fruit", 2), settings=tight, run_id="monday")
    more = lab.write("harvest", 2)
    assert lab.generate(more, settings=tight, run_id="monday").stopped_by == "over_budget"
    assert lab.posts == 2
    assert lab.generate(more, settings=tight, run_id="tuesday").stopped_by is None
    assert lab.posts == 4


def test_the_day_cap_holds_the_rest_back_and_the_next_day_resumes(open_lab: OpenLab) -> None:
    lab = open_lab(price_jitter=False, environ={"SEGMIND_DAILY_BUDGET_USD": "0.02", "SEGMIND_MAX_IN_FLIGHT": "1"})
    key = lab.write("fruit", 5)
    report = lab.generate(key)
    assert (report.stopped_by, report.models[0].endings) == ("over_budget", {"succeeded": 3, "held_back": 2})
    assert report.stop_message is not None
    held_back = f"Held back: 2 generations, up to ${2 * RESERVED_USD:.4f}"
    for words in ("day cap of $0.02", "SEGMIND_DAILY_BUDGET_USD", "resumes", held_back):
        assert words in report.stop_message
    assert lab.posts == 3
    assert lab.generate(key, settings=lab.settings(SEGMIND_DAILY_BUDGET_USD="0.02")).models[0].endings["reused"] == 3
    assert lab.charged_usd <= Decimal("0.02")
    assert lab.generate(key, clock=QuickClock(ahead=timedelta(days=1))).stopped_by is None
    lab.check_all_bought_once(5)


@pytest.mark.parametrize("cap", ["set", "run"])
def test_a_cap_holds_when_generations_cost_more_than_estimated(open_lab: OpenLab, cap: str) -> None:
    """The plan fits. Each charge is more than was reserved, so the cap is reached on the way."""
    six = {"set": {"budget_usd": 0.009}, "run": {}}[cap]
    environ = {"set": {}, "run": {"SEGMIND_RUN_BUDGET_USD": "0.012"}}[cap]
    lab = open_lab(price_jitter=False, environ={"SEGMIND_MAX_IN_FLIGHT": "1", **environ})
    too_cheap = {V2.replace("_", "-"): (Decimal("0.001"), None)}
    with lab.ledger() as ledger:
        ledger.write(entries.record_model_prices, too_cheap, now=datetime.now(UTC))
    report = lab.generate(lab.write("fruit", 6, **six), lab.write("harvest", 2))
    fruit, harvest = (dict(result.endings) for result in report.models)
    assert report.stopped_by == "over_budget"
    cap_usd, bought = {"set": ("0.009", 1), "run": ("0.012", 2)}[cap]
    assert f"The {cap} cap of ${cap_usd} stands in the way: ${bought * USUAL_USD:.4f} is spent" in str(
        report.stop_message
    )
    assert fruit == {"succeeded": bought, "held_back": 6 - bought}
    assert harvest == ({"succeeded": 2} if cap == "set" else {"held_back": 2})
    lab.check_money()


@pytest.mark.parametrize("cap", ["set", "run"])
def test_a_price_that_has_risen_fivefold_is_noticed_before_a_cap_is_exceeded(open_lab: OpenLab, cap: str) -> None:
    """The plan fits, and all of it may be sent at once."""
    environ = {"set": {}, "run": {"SEGMIND_RUN_BUDGET_USD": "0.16"}}[cap]
    lab = open_lab(price_jitter=False, fixed_latency_s=0.2, environ=environ)
    with lab.ledger() as ledger:
        ledger.write(
            entries.record_model_prices, {"fast-flux-schnell": (Decimal("0.001"), None)}, now=datetime.now(UTC)
        )
    report = lab.generate(lab.write("fruit", 100, **({"budget_usd": 0.16} if cap == "set" else {})))
    assert report.stopped_by == "over_budget"
    assert report.models[0].endings == {"succeeded": 29, "held_back": 71}
    assert lab.charged_usd == 29 * USUAL_USD <= Decimal("0.16")
    lab.check_money()


def test_a_plan_that_just_fits_its_budget_buys_everything(open_lab: OpenLab) -> None:
    """More is reserved until the price is seen; nothing stays behind for that."""
    lab = open_lab(price_jitter=False)
    report = lab.generate(lab.write("fruit", 40, budget_usd=float(40 * RESERVED_USD)))
    assert report.models[0].endings == {"succeeded": 40}
    lab.check_all_bought_once(40)


def test_a_failed_first_generation_does_not_block_the_others(open_lab: OpenLab) -> None:
    lab = open_lab(price_jitter=False, faults=Faults(script=["failed_validation", "failed_validation"]))
    report = lab.generate(lab.write("fruit", 4, budget_usd=float(4 * RESERVED_USD)))
    assert report.models[0].endings == {"succeeded": 2, "failed": 2}
    lab.check_money()


def test_exceeding_a_cap_is_reported(open_lab: OpenLab) -> None:
    lab = open_lab(price_jitter=False)
    with lab.ledger() as ledger:
        ledger.write(
            entries.record_model_prices, {"fast-flux-schnell": (Decimal("0.001"), None)}, now=datetime.now(UTC)
        )
    report = lab.generate(lab.write("fruit", 1, budget_usd=0.002))
    assert report.models[0].endings == {"succeeded": 1}
    (warning,) = report.warnings
    assert warning.startswith("Prompt set 'fruit' has cost $0.0055, more than its `budget_usd` of $0.002: ")


def test_a_forbidden_model_is_requested_once(open_lab: OpenLab) -> None:
    lab = open_lab(forbidden_slugs=frozenset({V2.replace("_", "-")}), environ={"SEGMIND_MAX_IN_FLIGHT": "1"})
    report = lab.generate(lab.write("fruit", 30, models=[V1, V2]))
    endings = {result.resource: dict(result.endings) for result in report.models}
    assert endings == {V1: {"succeeded": 30}, V2: {"failed": 1, "held_back": 29}}
    assert report.stopped_by == "forbidden_model"
    assert "fast-flux-schnell was not asked any more" in str(report.stop_message)
    assert lab.posts == 31


def test_a_model_that_always_fails_the_same_way_is_stopped(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(rates={"invalid": 1.0}), environ={"SEGMIND_MAX_IN_FLIGHT": "4"})
    report = lab.generate(lab.write("fruit", 200))
    assert report.stopped_by == "invalid_request"
    assert report.models[0].endings["held_back"] >= 170
    assert lab.posts <= 24


def test_generations_in_flight_count_against_the_day_cap(open_lab: OpenLab) -> None:
    lab = open_lab(fixed_latency_s=0.3, environ={"SEGMIND_DAILY_BUDGET_USD": str(2 * RESERVED_USD)})
    lab.generate(lab.write("fruit", 5))
    # the third one waits for what the first two really cost
    assert lab.posts == 2
    assert lab.charged_usd <= 2 * RESERVED_USD


def test_an_unknown_price_is_refused_until_the_set_has_max_unit_cost(lab: Lab) -> None:
    resource = "consistent_character_neolemon_v2"
    report = lab.generate(lab.write("heroes", 2, models=[resource]))
    assert (report.stopped_by, report.models[0].endings, lab.posts) == ("over_budget", {"held_back": 2}, 0)
    assert report.stop_message is not None
    assert "`max_unit_cost_usd`" in report.stop_message
    lab.generate(lab.write("heroes", 2, models=[resource], max_unit_cost_usd=0.2))
    lab.check_all_bought_once(2)


def test_a_set_with_one_unpriced_model_buys_nothing(lab: Lab) -> None:
    unpriced = "consistent_character_neolemon_v2"
    report = lab.generate(lab.write("heroes", 2, models=[V2, unpriced]))
    assert {result.resource: dict(result.endings) for result in report.models} == {
        V2: {"held_back": 2},
        unpriced: {"held_back": 2},
    }
    assert lab.posts == 0


def test_a_plan_records_and_sends_nothing(lab: Lab) -> None:
    batch = Batch(lab.prompt_set(lab.write("fruit", 3, models=[V1, V2])), (V1, V2))
    with lab.ledger() as ledger:
        plans = plan_set(ledger, lab.settings(), batch)
    assert [plan.counts for plan in plans] == [{"submit": 3}, {"submit": 3}]
    assert lab.generations() == []
    assert sum(lab.server.account()["requests"].values()) == 0


def test_an_unreachable_provider_is_reported_before_any_post(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    report = lab.generate(lab.write("fruit", 3), settings=lab.settings(SEGMIND_API_URL=f"http://127.0.0.1:{port}"))
    assert (report.stopped_by, report.models[0].endings) == ("connect_error", {"held_back": 3})
    assert report.stop_message is not None
    assert f"http://127.0.0.1:{port}" in report.stop_message
    assert "SEGMIND_API_URL" in report.stop_message


def test_with_an_unreachable_provider_stored_outputs_count_and_the_rest_is_unchanged(lab: Lab) -> None:
    key = lab.write("fruit", ["a pear"])
    lab.generate(key)
    lab.write("fruit", ["a pear", "a plum"])
    lab.server.stop()
    report = lab.generate(key)
    assert (report.stopped_by, report.models[0].endings) == ("connect_error", {"reused": 1, "held_back": 1})
    assert lab.states() == ["planned", "succeeded"]
    assert len(lab.attempts()) == 1


def test_results_of_one_origin_never_answer_another(open_lab: OpenLab) -> None:
    lab, other = open_lab(), open_lab()
    key = lab.write("fruit", 2)
    lab.generate(key)
    with pytest.raises(OriginMismatchError, match="SEGMIND_DATA_DIR") as raised:
        lab.generate(key, settings=lab.settings(SEGMIND_API_URL=other.server.url))
    assert (raised.value.recorded, raised.value.configured) == (lab.server.url, other.server.url)
    assert (other.posts, lab.posts) == (0, 2)


def test_two_accounts_of_one_origin_are_kept_apart(lab: Lab) -> None:
    key = lab.write("fruit", 1)
    lab.generate(key)
    with pytest.raises(OriginMismatchError):
        lab.generate(key, settings=lab.settings(SEGMIND_ACCOUNT="team"))
    assert lab.posts == 1


def test_outputs_without_their_ledger_stop_the_run(lab: Lab) -> None:
    key = lab.write("fruit", 1)
    lab.generate(key)
    for file in (lab.folder / "data").glob("ledger.sqlite*"):
        file.unlink()
    with pytest.raises(LedgerMissingError, match="paid for"):
        lab.generate(key)
    assert lab.posts == 1


def test_a_lower_provider_rate_limit_only_slows_the_run(open_lab: OpenLab) -> None:
    lab = open_lab(requests_per_minute=10, rate_window_s=0.5)
    lab.generate(lab.write("fruit", 30))
    account = lab.server.account()
    assert account["peak_requests_per_window"] > 10
    lab.check_all_bought_once(30)
    assert len(lab.attempts()) == 30 + account["rate_limited"]
