"""The pace of free requests: nothing until a refusal, then one after the other, and slower while it is refused."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.gateway import pace as pacing
from segmind_dagster.gateway.pace import Pace


class Hand:
    """A clock that moves when the one who sleeps least wakes up."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_s + seconds, woken))
        await woken

    async def turns(self, pace: Pace, count: int) -> list[float]:
        """The moments of so many turns that are all asked for now."""
        waiting = [asyncio.ensure_future(pace.turn()) for _ in range(count)]
        while not all(each.done() for each in waiting):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if self._sleepers:
                self._sleepers.sort(key=lambda each: each[0])
                at_s, woken = self._sleepers.pop(0)
                self.now_s = max(self.now_s, at_s)
                woken.set_result(None)
        return sorted([await each for each in waiting])


class _Asyncio:
    def __init__(self, hand: Hand) -> None:
        self.sleep = hand.sleep


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    hand = Hand()
    monkeypatch.setattr(pacing, "time", hand)
    monkeypatch.setattr(pacing, "asyncio", _Asyncio(hand))
    return hand


def test_no_request_waits_before_the_first_429(hand: Hand) -> None:
    assert asyncio.run(hand.turns(Pace(), 500)) == [100.0] * 500


def test_after_a_429_requests_wait_for_the_window_and_go_one_by_one(hand: Hand) -> None:
    pace = Pace()
    pace.refuse(100.0, 7.0)
    moments = asyncio.run(hand.turns(pace, 20))
    assert moments[0] == pytest.approx(107.0)
    assert all(later - earlier >= 0.049 for earlier, later in itertools.pairwise(moments))
    assert moments[-1] < 110


def test_a_429_for_an_older_request_does_not_slow_down_again(hand: Hand) -> None:
    pace: Any = Pace()
    pace.refuse(100.0, 5.0)
    gap_s = pace._gap_s
    hand.now_s = 101.0
    for _ in range(50):
        pace.refuse(99.0, 4.0)
    assert pace._gap_s == gap_s
    assert asyncio.run(hand.turns(pace, 2))[0] == pytest.approx(105.0)


def test_a_waiting_request_waits_again_after_another_429(hand: Hand) -> None:
    async def main() -> list[float]:
        pace = Pace()
        pace.refuse(100.0, 5.0)
        waiting = asyncio.ensure_future(hand.turns(pace, 3))
        await asyncio.sleep(0)
        pace.refuse(100.0, 60.0)
        return await waiting

    assert asyncio.run(main())[0] >= 160


@given(answers=st.lists(st.booleans(), max_size=60))
def test_the_gap_stays_within_its_bounds_and_closes_while_answers_come(answers: list[bool]) -> None:
    pace: Any = Pace()
    for number, is_refused in enumerate(answers):
        if is_refused:
            pace.refuse(1e12 + number, 0.0)
        else:
            pace.accept()
        assert 0 <= pace._gap_s <= 2.0
    for _ in range(300):
        pace.accept()
    assert pace._gap_s == 0
