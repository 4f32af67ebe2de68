"""The account's balance, as it was last recorded, is said at each tick, with a warning when it is low."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.sensors import Past, Ticks, ago, balance_is

from segmind_dagster.orchestration.sensors import low_balance

if TYPE_CHECKING:
    from lab.dagster_project import DagsterLab


def test_an_unknown_balance_is_not_guessed(lab: DagsterLab) -> None:
    assert "No balance is recorded yet" in Ticks(lab, low_balance).reason()
    assert not lab.data.exists()
    lab.write("fruit", 1)
    Past(lab, "fruit")
    assert "No balance is recorded yet" in Ticks(lab, low_balance).reason()


def test_a_low_balance_is_a_warning_with_its_time(lab: DagsterLab) -> None:
    at = ago(hours=2)
    balance_is(lab, "12.5", at)
    assert Ticks(lab, low_balance).reason() == f"The account held $12.5000 at {at:%Y-%m-%d %H:%M:%S} UTC."
    balance_is(lab, "4.99", at)
    assert "less than $5 (SEGMIND_LOW_BALANCE_USD): top it up" in Ticks(lab, low_balance).reason()


def test_the_low_balance_tick_sends_no_request(lab: DagsterLab) -> None:
    balance_is(lab, "1", ago(hours=2))
    Ticks(lab, low_balance).tick()
    assert sum(lab.server.account()["requests"].values()) == 0
