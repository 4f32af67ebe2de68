"""What became of a lost submission, judged by a history that a test writes, on a clock that a test owns."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.clocks import HandClock
from segmind_dagster.runner.settling import Found, Settler

from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.gateway.wire import HistoryRow
from segmind_dagster.ledger import Caps, Claim, entries, moves, open_ledger
from segmind_dagster.registry import find_model
from segmind_dagster.runner.work import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from segmind_dagster.ledger import Ledger

SETTLE_S = 120.0
V1_TIMEOUT_S = 600.0
BODY = {"prompt": "a pear", "seed": 7}
OTHER = {"prompt": "a plum", "seed": 7}
SLUG = "fast-flux-schnell"


class History:
    """A provider of which only the history answers: rows appear at their time, or it fails."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.rows: list[tuple[float, HistoryRow]] = []
        self.failing_looks = 0
        self.looks: list[float] = []
        self.since: list[datetime] = []

    def add(
        self,
        request_id: str,
        body: Mapping[str, Any] | None = BODY,
        *,
        at_s: float = 0.0,
        model: str = SLUG,
        created_s: float | None = 0.0,
    ) -> None:
        created = None if created_s is None else HandClock().now() + timedelta(seconds=created_s)
        row = HistoryRow(request_id=request_id, model_slug=model, body=body, created_at=created)
        self.rows.append((at_s, row))

    async def history(self, *, since: datetime, now: datetime) -> list[HistoryRow]:
        self.looks.append(self.clock.monotonic())
        self.since.append(since)
        if len(self.looks) <= self.failing_looks:
            raise GatewayError("server_error", "GET the history: answered 500")
        return [row for at_s, row in self.rows if at_s <= self.clock.monotonic()]


class Bench:
    """A settler over a real ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.clock = HandClock()
        self.history = History(self.clock)

    def settle(self, *bodies: Mapping[str, Any], slug: str = SLUG) -> list[Any]:
        """The fates of submissions lost at the clock's start, all waiting together."""
        intent_at = self.clock.now()

        async def together() -> list[Any]:
            settler = Settler(  # type: ignore[arg-type]
                self.history, self.ledger, self.clock, settle_s=SETTLE_S, v1_timeout_s=V1_TIMEOUT_S, progress=Progress()
            )
            try:
                return await asyncio.gather(
                    *(settler.settle(model=find_model(slug), body=body, intent_at=intent_at) for body in bodies)
                )
            finally:
                await settler.close()

        return asyncio.run(together())


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite", api_origin="http://here", holds_outputs=lambda: None)
    yield opened
    opened.close()


@pytest.fixture
def bench(ledger: Ledger) -> Bench:
    return Bench(ledger)


def test_a_row_with_our_body_is_ours_at_once(bench: Bench) -> None:
    bench.history.add("r1")
    assert bench.settle(BODY) == [Found("r1")]
    assert bench.clock.monotonic() < 1


@pytest.mark.parametrize("at_s", [5.0, 60.0, 119.0])
def test_a_row_that_shows_up_late_is_still_found(bench: Bench, at_s: float) -> None:
    bench.history.add("r1", at_s=at_s)
    assert bench.settle(BODY) == [Found("r1")]


def test_absence_counts_once_the_settling_time_has_passed_and_what_was_sent_since_is_listed(bench: Bench) -> None:
    own(bench.ledger, "r1", OTHER)
    bench.history.add("r1", OTHER)
    assert bench.settle(BODY) == ["absent"]
    assert SETTLE_S <= bench.history.looks[-1] <= SETTLE_S + 10.5
    # the last look goes further back
    assert max(bench.history.looks[:-2]) < SETTLE_S


def test_with_nothing_that_shows_how_far_the_history_has_come_it_waits_thrice_as_long(bench: Bench) -> None:
    assert bench.settle(BODY) == ["absent"]
    assert 3 * SETTLE_S <= bench.history.looks[-1] <= 3 * SETTLE_S + 30


@pytest.mark.parametrize("at_s", [180.0, 250.0, 359.0])
def test_a_history_that_is_late_for_everything_proves_no_absence(bench: Bench, at_s: float) -> None:
    own(bench.ledger, "r1", OTHER)
    bench.history.add("r1", OTHER, at_s=at_s)
    bench.history.add("r2", at_s=at_s)
    assert bench.settle(BODY) == [Found("r2")]


def test_a_history_that_leaves_out_what_it_should_list_leaves_it_unresolved(bench: Bench) -> None:
    own(bench.ledger, "r1", OTHER)
    bench.history.add("somebody else's", {"prompt": "a plum"})
    assert bench.settle(BODY) == ["unresolved"]
    assert bench.history.looks[-1] <= 3 * SETTLE_S + 30


def test_what_another_endpoint_has_accepted_bears_no_witness(bench: Bench) -> None:
    own(bench.ledger, "r1", OTHER)
    bench.history.add("r1", OTHER)
    assert bench.settle(BODY, slug="sdxl1.0-newreality-lightning") == ["absent"]
    assert bench.history.looks[-1] >= SETTLE_S * 3 + V1_TIMEOUT_S


@pytest.mark.parametrize(
    ("body", "model"),
    [
        ({"prompt": "a plum", "seed": 7}, SLUG),
        ({"prompt": "a pear", "seed": 8}, SLUG),
        (OTHER, "flux-dev"),
    ],
)
def test_another_body_or_model_is_not_ours(bench: Bench, body: Mapping[str, Any], model: str) -> None:
    bench.history.add("r1", body, model=model)
    assert bench.settle(BODY) == ["absent"]


def test_our_body_under_another_models_name_leaves_doubt_unless_that_model_was_sent_it(bench: Bench) -> None:
    bench.history.add("r1", model="flux-dev")
    assert bench.settle(BODY) == ["unresolved"]
    send(bench.ledger, BODY, slug="flux-dev")
    assert bench.settle(BODY) == ["absent"]


@pytest.mark.parametrize("body", [{"prompt": "a pear"}, {"prompt": "a pear", "seed": None}, {"prompt": "a pe..."}])
def test_a_body_that_nothing_tells_from_ours_is_neither_ours_nor_a_proof_of_absence(
    bench: Bench, body: Mapping[str, Any]
) -> None:
    bench.history.add("r1", body)
    assert bench.settle(BODY) == ["unresolved"]


@pytest.mark.parametrize("model", [SLUG, "Fast-Flux-Schnell", "fast_flux_schnell", "Fast Flux Schnell", ""])
def test_the_models_name_may_be_spelt_differently_or_be_missing(bench: Bench, model: str) -> None:
    bench.history.add("r1", model=model)
    assert bench.settle(BODY) == [Found("r1")]


@pytest.mark.parametrize("body", [{**BODY, "steps": 4}, {**BODY, "seed": "7"}, {**BODY, "base64": False}])
def test_the_provider_may_have_added_defaults_or_made_texts_of_numbers(bench: Bench, body: Mapping[str, Any]) -> None:
    bench.history.add("r1", body)
    assert bench.settle(BODY) == [Found("r1")]


@pytest.mark.parametrize(("created_s", "fate"), [(-121, "unresolved"), (-86_000, "unresolved"), (-86_500, "absent")])
def test_an_equal_row_from_before_the_intent_is_not_adopted_and_leaves_doubt_for_a_day(
    bench: Bench, created_s: float, fate: str
) -> None:
    """It may be ours, with a clock or a time zone that is off."""
    bench.history.add("r1", created_s=created_s)
    assert bench.settle(BODY) == [fate]


@pytest.mark.parametrize("created_s", [-100.0, None])
def test_clocks_may_differ_a_little_and_a_row_may_have_no_time(bench: Bench, created_s: float | None) -> None:
    bench.history.add("r1", created_s=created_s)
    assert bench.settle(BODY) == [Found("r1")]


@pytest.mark.parametrize("body", [None, {}, {"inputs": BODY}])
def test_a_row_whose_body_cannot_be_read_leaves_it_unresolved(bench: Bench, body: Mapping[str, Any] | None) -> None:
    bench.history.add("r1", body)
    assert bench.settle(BODY) == ["unresolved"]
    assert bench.history.looks[-1] >= SETTLE_S


def test_an_unreadable_row_of_another_model_or_an_earlier_day_casts_no_doubt(bench: Bench) -> None:
    bench.history.add("r1", None, model="flux-dev")
    bench.history.add("r2", None, created_s=-86400)
    assert bench.settle(BODY) == ["absent"]


def test_a_request_the_ledger_owns_is_never_adopted_again(bench: Bench) -> None:
    own(bench.ledger, "r1")
    bench.history.add("r1")
    assert bench.settle(BODY) == ["absent"]


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_bodies_of_which_one_says_more_each_finds_its_own(bench: Bench, order: int) -> None:
    more = {**BODY, "steps": 2}
    for request_id, body in [("r1", BODY), ("r2", more)][::order]:
        bench.history.add(request_id, body)
    assert bench.settle(BODY, more) == [Found("r1"), Found("r2")]


def test_a_row_that_says_more_is_left_to_the_generation_that_says_so_too(bench: Bench) -> None:
    send(bench.ledger, {**BODY, "steps": 2})
    bench.history.add("r1", {**BODY, "steps": 2, "added": True})
    assert bench.settle(BODY) == ["unresolved"]


def test_a_row_that_says_more_is_ours_when_the_other_one_has_its_own(bench: Bench) -> None:
    own(bench.ledger, "r2", {**BODY, "steps": 2})
    bench.history.add("r1", {**BODY, "steps": 2})
    assert bench.settle(BODY) == [Found("r1")]


@given(arrived=st.integers(0, 5), lost=st.integers(1, 5))
def test_of_equal_submissions_each_gets_its_own_request_and_the_rest_is_absent(arrived: int, lost: int) -> None:
    bench = Bench(ledger=_Nothing())  # type: ignore[arg-type]
    for number in range(arrived):
        bench.history.add(f"r{number}")
    fates = bench.settle(*[BODY] * lost)
    found = [fate.request_id for fate in fates if isinstance(fate, Found)]
    assert len(found) == len(set(found)) == min(arrived, lost)
    assert fates.count("absent") == lost - len(found)


def test_one_reading_of_the_history_serves_all_that_wait(bench: Bench) -> None:
    bodies = [{**BODY, "seed": seed} for seed in range(50)]
    for body in bodies:
        bench.history.add(f"r{body['seed']}", body)
    assert bench.settle(*bodies) == [Found(f"r{seed}") for seed in range(50)]
    assert len(bench.history.looks) == 1


def test_the_history_is_asked_from_before_the_first_intent_and_not_too_often(bench: Bench) -> None:
    bench.settle(BODY)
    assert all(since < HandClock().now() for since in bench.history.since)
    assert len(bench.history.looks) <= 50


def test_a_history_that_fails_for_a_while_is_asked_again(bench: Bench) -> None:
    bench.history.failing_looks = 3
    bench.history.add("r1")
    assert bench.settle(BODY) == [Found("r1")]


def test_a_history_that_keeps_failing_leaves_everything_unresolved_and_does_not_go_on_for_ever(bench: Bench) -> None:
    bench.history.failing_looks = 10**9
    assert bench.settle(BODY, {**BODY, "seed": 8}) == ["unresolved", "unresolved"]
    assert len(bench.history.looks) <= 10


def test_closing_lets_whoever_waits_go_without_an_answer(ledger: Ledger) -> None:
    clock = HandClock()

    async def close_early() -> Any:
        settler = Settler(  # type: ignore[arg-type]
            History(clock), ledger, clock, settle_s=10**9, v1_timeout_s=1, progress=Progress()
        )
        waiting = asyncio.create_task(settler.settle(model=find_model(SLUG), body=BODY, intent_at=clock.now()))
        await asyncio.sleep(0)
        await settler.close()
        return await waiting

    assert asyncio.run(close_early()) == "unresolved"


class _Nothing:
    """A ledger that owns no request."""

    def read(self, question: Any, asked: Any = ()) -> frozenset[str]:
        return frozenset()


def own(ledger: Ledger, request_id: str, body: Mapping[str, Any] = BODY) -> None:
    """Another generation that has that request."""
    claim = send(ledger, body)
    ledger.write(moves.mark_submitted, claim, request_id=request_id, http_status=200, now=HandClock().now())


def send(ledger: Ledger, body: Mapping[str, Any], *, slug: str = SLUG) -> Claim:
    """Another generation, sent and not answered yet."""
    now = HandClock().now()
    row = {
        "generation_id": "other", "model_slug": slug, "prompt": "a pear", "negative_prompt": None, "body": body,
        "images": {}, "variables": {}, "seed": 7, "sample": 0,
    }  # fmt: skip
    ledger.write(entries.register_set, prompt_set="s", resource="fast_flux_schnell", generations=[row], now=now)
    return ledger.write(
        moves.claim, generation_id="other", owner="o", run_id=None, prompt_set="s", reserved_usd=Decimal("0.01"),
        caps=Caps(day_usd=Decimal(1)), rate_wait_ms=0, now=now,
    )  # fmt: skip


@pytest.mark.parametrize(("slug", "settle_s"), [(SLUG, SETTLE_S), ("sdxl1.0-newreality-lightning", 720.0)])
def test_a_v1_call_may_be_at_work_for_its_whole_time_out_before_it_counts_as_never_sent(
    bench: Bench, slug: str, settle_s: float
) -> None:
    assert bench.settle(BODY, slug=slug) == ["absent"]
    in_silence_s = settle_s + 2 * SETTLE_S
    assert in_silence_s <= bench.history.looks[-1] <= in_silence_s + 30
