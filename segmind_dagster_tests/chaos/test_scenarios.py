"""The storm of lies: its table is whole, its judge notices what it is there for, and one scenario is really played."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from bench.chaos import lying_storm
from bench.chaos.scenarios import FLUX_USD, Scenario, scenarios
from bench.chaos.verdict import Doubt, Evidence, Held, judge, table
from segmind_dagster.sandbox import ALTERATIONS, COST_LIES, LATE_ERRORS, Lies
from segmind_dagster.sandbox.offers import offers

if TYPE_CHECKING:
    from pathlib import Path

PEAR, FIG = ("flux", "pear"), ("flux", "fig")
NO_DOUBT = Doubt(unknown=0, shown=0)
ANY = Scenario(name="any")


def evidence() -> Evidence:
    """Two generations with one body and one with another, bought once each."""
    return Evidence(
        wanted=Counter({PEAR: 2, FIG: 1}),
        charged=Counter({PEAR: 2, FIG: 1}),
        charged_usd=Decimal("0.03"),
        posts=4,
        accepted=3,
        running=0,
        ledger={
            key: Held(wire=wire, state="succeeded", failure_kind=None)
            for key, wire in zip("abc", (PEAR, PEAR, FIG), strict=True)
        },
        met=NO_DOUBT,
        left=NO_DOUBT,
    )


def broken(scenario: Scenario, found: Evidence) -> set[str]:
    return {problem.partition(":")[0] for problem in judge(scenario, found).broken}


def test_books_that_agree_break_no_promise() -> None:
    verdict = judge(replace(ANY, must_finish=True, must_resend=True), evidence())
    assert verdict.broken == ()
    assert (verdict.most_per_generation, verdict.bought_twice, verdict.lost, verdict.stored) == (1, 0, 0, 3)


def test_a_second_charge_is_noticed_also_among_generations_with_one_body() -> None:
    for wire, most in ((PEAR, 2), (FIG, 2)):
        verdict = judge(ANY, replace(evidence(), charged=evidence().charged + Counter([wire])))
        assert (verdict.bought_twice, verdict.most_per_generation) == (1, most)
        assert len(verdict.broken) == 1


def test_a_charge_without_a_wanted_generation_is_noticed() -> None:
    assert judge(ANY, replace(evidence(), charged=evidence().charged + Counter([("flux", "plum")]))).bought_twice == 1


def test_a_job_that_is_still_running_is_noticed() -> None:
    assert broken(ANY, replace(evidence(), running=1)) == {"bought once"}


@pytest.mark.parametrize(("state", "kind", "lost"), [
    ("planned", None, 1), ("failed", "invalid_request", 1), ("failed", "expired", 0), ("submitted", None, 0),
    ("unknown", None, 0),
])  # fmt: skip
def test_a_charge_that_the_ledger_has_forgotten_is_lost(state: str, kind: str | None, lost: int) -> None:
    ledger = {**evidence().ledger, "c": Held(wire=FIG, state=state, failure_kind=kind)}
    verdict = judge(ANY, replace(evidence(), ledger=ledger))
    assert verdict.lost == lost
    assert bool(verdict.broken) == bool(lost)


def test_doubt_that_is_not_shown_is_noticed_during_and_after_the_lies() -> None:
    hidden = Doubt(unknown=3, shown=2)
    assert broken(ANY, replace(evidence(), met=hidden)) == {"doubt is shown"}
    assert broken(ANY, replace(evidence(), left=hidden)) == {"doubt is shown"}
    assert broken(ANY, replace(evidence(), met=Doubt(unknown=3, shown=3))) == set()


def test_a_charge_in_two_ledgers_and_a_run_without_a_freshness_check_are_noticed() -> None:
    assert broken(ANY, replace(evidence(), taken_twice=1)) == {"a charge belongs to one ledger"}
    assert broken(ANY, replace(evidence(), unwarned=["3 POSTs"])) == {"a run looks before it buys"}


def test_runs_that_hang_or_fail_are_noticed_and_those_that_stop_with_a_message_are_not() -> None:
    assert broken(ANY, replace(evidence(), hung=["run 1"])) == {"nothing hangs"}
    assert broken(ANY, replace(evidence(), crashed=["run 1: KeyError"])) == {"no run fails by itself"}
    assert broken(ANY, replace(evidence(), stopped=["run 1: LedgerOutdatedError"])) == set()


def test_with_an_honest_provider_everything_is_stored_and_some_post_was_lost() -> None:
    honest = replace(ANY, must_finish=True, must_resend=True)
    ledger = {**evidence().ledger, "c": Held(wire=FIG, state="unknown", failure_kind=None)}
    assert len(judge(honest, replace(evidence(), ledger=ledger)).broken) == 1
    assert len(judge(honest, replace(evidence(), posts=3)).broken) == 1


@pytest.mark.parametrize(("factor", "most_usd"), [
    (1, Decimal("0.30")), (4, Decimal("0.30")), (10, Decimal("0.75") + 10 * FLUX_USD),
])  # fmt: skip
def test_a_cap_may_be_exceeded_only_beyond_four_times_the_believed_price(factor: float, most_usd: Decimal) -> None:
    capped = replace(ANY, lies=Lies(price_factor=factor), set_usd=Decimal("0.30"), sets=1)
    assert capped.most_usd == most_usd
    assert broken(capped, replace(evidence(), charged_usd=most_usd)) == set()
    assert broken(capped, replace(evidence(), charged_usd=most_usd + Decimal("0.000001"))) == {"caps hold"}


def test_set_run_and_day_caps_each_limit_what_all_runs_spend() -> None:
    assert replace(ANY, set_usd=Decimal(1), sets=2).cap_usd == 2
    assert replace(ANY, run_usd=Decimal(1), runs=3).cap_usd == 3
    assert replace(ANY, day_usd=Decimal(1), set_usd=Decimal(1), sets=3).cap_usd == 1
    assert ANY.cap_usd is None


def test_the_believed_price_is_the_catalogues() -> None:
    assert offers()["fast-flux-schnell"].price_usd == FLUX_USD


def test_every_kind_of_lie_and_of_late_error_has_a_scenario() -> None:
    found = scenarios(7)
    lies = [told for each in found for told in (each.lies, each.then) if told is not None]
    assert {kind for told in lies for kind in told.alterations} == set(ALTERATIONS)
    assert {told.cost_in_results for told in lies} == set(COST_LIES)
    assert {kind for each in found for kind in each.rates} >= set(LATE_ERRORS)
    said = {
        each.name for told in lies for each in fields(Lies) if getattr(told, each.name) != getattr(Lies(), each.name)
    }
    others = {"seed", "altered_share", "cut_at", "alterations", "cost_in_headers", "cost_in_history", "balance"}
    assert said >= {each.name for each in fields(Lies)} - others


def test_scenarios_are_chosen_by_the_beginning_of_their_names_and_drawn_by_the_seed() -> None:
    assert [each.name for each in lying_storm.chosen(["clock_jumps_b"], seed=7)] == ["clock_jumps_back"]
    assert lying_storm.chosen([], seed=7) == scenarios(7)
    assert {each.name for each in scenarios(7)} != {each.name for each in scenarios(8)}
    with pytest.raises(ValueError, match="no scenario moonlight"):
        lying_storm.chosen(["moonlight"], seed=7)


def test_the_table_has_a_line_for_each_scenario() -> None:
    capped = replace(ANY, name="capped", set_usd=Decimal("0.01"), sets=1)
    lines = table([judge(ANY, evidence()), judge(capped, evidence())]).splitlines()
    assert [line.split()[0] for line in lines] == ["scenario", "any", "capped"]
    assert lines[1].endswith("held")
    assert lines[2].endswith("BROKEN")
    assert "$0.030 of $0.010" in lines[2]


@pytest.mark.kill
def test_an_honest_scenario_is_played_to_its_end_and_sends_again_what_never_arrived(tmp_path: Path) -> None:
    (verdict,) = lying_storm.rage(lying_storm.chosen(["honest_later"], seed=7), tmp_path, seed=7, say=print)
    assert verdict.broken == ()
    assert verdict.stored == verdict.evidence.charged.total() == verdict.evidence.wanted.total()
    assert verdict.evidence.posts > verdict.evidence.accepted


SHIFTED = """
import time
from datetime import UTC, datetime
from segmind_dagster.runner.clock import SystemClock
from bench.chaos.lone_run import shift_clock
from bench.chaos.scenarios import Jump
before, began = SystemClock().now(), time.monotonic()
shift_clock(Jump(after_s=0.0, by_s=-3600.0))
print((SystemClock().now() - before).total_seconds(), time.monotonic() - began, isinstance(before, datetime))
import segmind_dagster.gateway.answers as answers
print((answers.datetime.now(UTC) - before).total_seconds(), isinstance(before, answers.datetime))
"""


def test_a_shifted_wall_clock_is_seen_by_the_product_and_leaves_the_monotonic_clock(tmp_path: Path) -> None:
    import subprocess
    import sys

    said = subprocess.run([sys.executable, "-c", SHIFTED], capture_output=True, text=True, check=True).stdout
    first, second = (line.split() for line in said.splitlines())
    for shifted in (first[0], second[0]):
        assert -3600 <= float(shifted) < -3500
    assert 0 <= float(first[1]) < 100
    assert (first[2], second[1]) == ("True", "True")
