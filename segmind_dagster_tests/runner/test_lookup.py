"""What became of a lost submission, judged by a history that a test writes, on a clock that a test owns."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from lab.clocks import HandClock

from segmind_dagster.gateway.errors import BrokenOffError, GatewayError
from segmind_dagster.ledger import Caps, Claim, entries, moves, open_ledger, reads, writes
from segmind_dagster.ledger.records import ABSENT_BY_WORD
from segmind_dagster.ledger.restoring import REBUILT_AT
from segmind_dagster.lifecycle.matching import HistoryRow, Submission
from segmind_dagster.registry import bundled_catalogue, find_model
from segmind_dagster.runner.lookup import COLLECT_STAYS_OPEN, RUN_STAYS_OPEN, Found, Lookup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from segmind_dagster.ledger import Ledger

SETTLE_S = 120.0
JOB_S = 5.0
V1_TIMEOUT_S = 600.0
BODY = {"prompt": "a pear", "seed": 7}
OTHER = {"prompt": "a plum", "seed": 7}
SLUG, V1_SLUG = "fast-flux-schnell", "sdxl1.0-newreality-lightning"


class History:
    """A provider of which only the history answers: rows appear at their time, or it fails."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.rows: list[tuple[float, HistoryRow]] = []
        self.failing_looks = 0
        self.is_cut = False
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
        **fields: Any,
    ) -> None:
        created = None if created_s is None else HandClock().now() + timedelta(seconds=created_s)
        row = HistoryRow(request_id=request_id, model_slug=model, body=body, created_at=created, **fields)
        self.rows.append((at_s, row))

    async def history(self, *, since: datetime, now: datetime, is_whole: bool = True) -> list[HistoryRow]:
        self.looks.append(self.clock.monotonic())
        self.since.append(since)
        if len(self.looks) <= self.failing_looks or (is_whole and self.is_cut):
            raise GatewayError("unknown_outcome", "GET the history: it cannot be read whole")
        return [row for at_s, row in self.rows if at_s <= self.clock.monotonic()]


class Bench:
    """A look-up over a real ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.clock = HandClock()
        self.history = History(self.clock)
        self.over_s, self.likely_over_s = JOB_S, 0.0

    def lookup(self, **options: Any) -> Lookup:
        return Lookup(
            self.history,  # type: ignore[arg-type]
            self.ledger,
            self.clock,
            settling_time_s=SETTLE_S,
            over_s=lambda model: V1_TIMEOUT_S if model.api_version == "v1" else self.over_s,
            likely_over_s=lambda _: self.likely_over_s,
            slugs=bundled_catalogue().entries.keys(),
            **options,
        )

    def find(self, *bodies: Mapping[str, Any], slug: str = SLUG, is_refused: bool = False, **options: Any) -> list[Any]:
        """The fates of submissions lost at the clock's start, all waiting together."""
        sent_at = self.clock.now()

        async def together() -> list[Any]:
            lookup = self.lookup(**options)
            ask = lookup.find_refused if is_refused else lookup.find
            try:
                return await asyncio.gather(
                    *(ask(f"g{n}", find_model(slug), body, sent_at) for n, body in enumerate(bodies))
                )
            finally:
                await lookup.close()

        return asyncio.run(together())

    def send(self, key: str, body: Mapping[str, Any] = OTHER, *, slug: str = SLUG) -> Claim:
        """A generation that is sent and not answered yet."""
        now = self.clock.now()
        row = {
            "generation_id": key, "model_slug": slug, "prompt": "a pear", "negative_prompt": None, "body": body,
            "images": {}, "variables": {}, "seed": 7, "sample": 0,
        }  # fmt: skip
        self.ledger.write(
            entries.register_set, prompt_set=key, resource="fast_flux_schnell", generations=[row], now=now
        )
        return self.ledger.write(
            moves.claim, generation_id=key, owner="o", run_id=None, prompt_set="s", reserved_usd=Decimal("0.01"),
            caps=Caps(), rate_wait_ms=0, now=now,
        )  # fmt: skip

    def own(self, request_id: str, body: Mapping[str, Any] = OTHER, *, slug: str = SLUG, at_s: float = 1.0) -> None:
        """A generation that has that request; accepted after what is looked up was sent."""
        claim = self.send(f"of {request_id}", body, slug=slug)
        accepted_at = self.clock.now() + timedelta(seconds=at_s)
        self.ledger.write(moves.mark_submitted, claim, request_id=request_id, http_status=200, now=accepted_at)

    def control(self, *, at_s: float = 0.0, slug: str = SLUG, status: str | None = None) -> None:
        """A request of the model that was accepted since, and is listed from some moment on."""
        self.own("control", slug=slug)
        self.history.add("control", OTHER, at_s=at_s, model=slug, status=status)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite", api_origin="http://here", holds_outputs=lambda: None)
    yield opened
    opened.close()


@pytest.fixture
def bench(ledger: Ledger) -> Bench:
    return Bench(ledger)


def test_a_row_with_our_body_is_adopted_at_once(bench: Bench) -> None:
    bench.history.add("r1")
    assert bench.find(BODY) == [Found("r1")]
    assert bench.clock.monotonic() < 1


@pytest.mark.parametrize("at_s", [5.0, 60.0, 250.0, 350.0])
def test_a_late_row_is_found(bench: Bench, at_s: float) -> None:
    bench.history.add("r1", at_s=at_s)
    assert bench.find(BODY) == [Found("r1")]


def test_absence_takes_two_whole_readings_and_a_control_after_the_settling_time(bench: Bench) -> None:
    bench.control()
    assert bench.find(BODY) == ["absent"]
    assert SETTLE_S <= bench.history.looks[-1] <= SETTLE_S * 1.5


def test_without_any_accepted_request_absence_is_never_proved(bench: Bench) -> None:
    assert bench.find(BODY) == ["unresolved"]
    assert 3 * SETTLE_S <= bench.history.looks[-1] <= 3 * SETTLE_S + 31
    assert Bench(bench.ledger).find(BODY, stays_open=50.0) == ["unresolved"]


def test_without_a_control_a_run_gives_up_and_a_collecting_run_waits_for_proof(bench: Bench) -> None:
    bench.own("r1", slug="flux-dev")
    bench.history.add("r1", OTHER, model="flux-dev")
    assert bench.find(BODY) == ["unresolved"]
    later = Bench(bench.ledger)
    later.history.add("r1", OTHER, model="flux-dev")
    assert later.find(BODY, stays_open=COLLECT_STAYS_OPEN) == ["absent"]
    assert 8 * SETTLE_S <= later.history.looks[-1] <= 9 * SETTLE_S


@pytest.mark.parametrize("at_s", [180.0, 250.0, 345.0])
def test_a_late_history_proves_no_absence(bench: Bench, at_s: float) -> None:
    bench.control(at_s=at_s)
    bench.history.add("r2", at_s=at_s)
    assert bench.find(BODY) == [Found("r2")]


def test_a_history_with_missing_requests_leaves_the_submission_unresolved(bench: Bench) -> None:
    bench.own("r1")
    assert bench.find(BODY) == ["unresolved"]


def test_an_incomplete_history_proves_nothing(bench: Bench) -> None:
    bench.control()
    bench.history.is_cut = True
    assert bench.find(BODY) == ["unresolved"]


def test_an_incomplete_history_is_still_searched(bench: Bench) -> None:
    bench.history.is_cut = True
    bench.history.add("r1", at_s=200.0)
    assert bench.find(BODY) == [Found("r1")]


def test_a_v1_call_may_run_for_its_whole_timeout(bench: Bench) -> None:
    bench.control(slug=V1_SLUG, status="QUEUED")
    assert bench.find(BODY, slug=V1_SLUG) == ["absent"]
    assert SETTLE_S + V1_TIMEOUT_S <= bench.history.looks[-1] <= SETTLE_S + V1_TIMEOUT_S + 61


@pytest.mark.parametrize(
    "body", [{"prompt": "a pear"}, {"prompt": "a pear", "seed": None}, {"prompt": "a pe..."}, None, {}]
)
def test_a_body_that_may_be_ours_is_neither_adopted_nor_a_proof_of_absence(
    bench: Bench, body: Mapping[str, Any] | None
) -> None:
    bench.control()
    bench.history.add("r1", body)
    assert bench.find(BODY) == ["unresolved"]


@pytest.mark.parametrize(("created_s", "fate"), [(-121, "unresolved"), (-86_000, "unresolved"), (-86_500, "absent")])
def test_an_equal_row_from_before_the_intent_is_not_adopted_and_leaves_doubt_for_a_day(
    bench: Bench, created_s: float, fate: str
) -> None:
    bench.control()
    bench.history.add("r1", created_s=created_s)
    assert bench.find(BODY) == [fate]


def test_a_clock_offset_is_measured_by_our_own_requests(bench: Bench) -> None:
    bench.own("control")
    bench.history.add("control", OTHER, created_s=-25_000)
    bench.history.add("r1", created_s=-25_001)
    assert bench.find(BODY) == [Found("r1")]
    assert bench.history.since[-1] < bench.clock.now() - timedelta(seconds=25_000)


def test_an_owned_request_is_never_adopted_again(bench: Bench) -> None:
    bench.own("r1", BODY)
    bench.history.add("r1")
    assert bench.find(BODY) == ["absent"]


def test_a_request_that_may_answer_a_pending_submission_is_not_adopted(bench: Bench) -> None:
    bench.send("other", BODY)
    bench.history.add("r1")
    assert bench.find(BODY) == ["unresolved"]


def test_one_reading_serves_all_waiting_submissions(bench: Bench) -> None:
    bodies = [{**BODY, "seed": seed} for seed in range(50)]
    for body in bodies:
        bench.history.add(f"r{body['seed']}", body)
    assert bench.find(*bodies) == [Found(f"r{seed}") for seed in range(50)]
    assert len(bench.history.looks) == 1


def test_the_history_is_not_read_too_often(bench: Bench) -> None:
    bench.find(BODY)
    assert len(bench.history.looks) <= 25


def test_a_failing_history_is_read_again(bench: Bench) -> None:
    bench.history.failing_looks = 3
    bench.history.add("r1")
    assert bench.find(BODY) == [Found("r1")]


def test_a_history_that_keeps_failing_ends_with_unresolved_submissions(bench: Bench) -> None:
    bench.history.failing_looks = 10**9
    assert bench.find(BODY, {**BODY, "seed": 8}) == ["unresolved", "unresolved"]
    assert len(bench.history.looks) <= 10


def test_closing_releases_waiting_tasks_as_unresolved(bench: Bench) -> None:
    async def close_early() -> Any:
        lookup = bench.lookup()
        waiting = asyncio.create_task(lookup.find("g", find_model(SLUG), BODY, bench.clock.now()))
        await asyncio.sleep(0)
        await lookup.close()
        return await waiting, await lookup.find("g", find_model(SLUG), BODY, bench.clock.now())

    assert asyncio.run(close_early()) == ("unresolved", "unresolved")


def test_an_error_answer_is_looked_up_once_and_its_job_found(bench: Bench) -> None:
    assert bench.find(BODY, is_refused=True) == ["absent"]
    assert len(bench.history.looks) == 1
    bench.history.add("r1")
    assert bench.find(BODY, is_refused=True) == [Found("r1")]


def test_a_request_listed_as_failed_is_the_error_answer_itself(bench: Bench) -> None:
    bench.history.add("r1", status="FAILED")
    assert bench.find(BODY, is_refused=True) == ["absent"]
    assert bench.find(BODY) == [Found("r1")]


def absent(bench: Bench, key: str = "g0", *, reason: str = "not listed") -> None:
    """A generation whose submission was inferred never to have arrived."""
    claim = bench.send(key, BODY)
    bench.ledger.write(
        writes.mark_unknown, claim, failure_kind="unknown_outcome", error="no answer", http_status=None,
        now=bench.clock.now(),
    )  # fmt: skip
    bench.ledger.write(writes.mark_absent, claim, reason=reason, now=bench.clock.now())


def record(bench: Bench, key: str = "g0") -> Any:
    return bench.ledger.read(reads.snapshot, [key], is_alive=lambda *_: False)[key]


def look_before_buying(bench: Bench, *planned: Submission) -> list[str]:
    found = asyncio.run(bench.lookup().look_before_buying(planned))
    return [row.request_id for _, row in found]


def test_an_inferred_absence_that_turns_up_is_adopted_unless_bought_again(bench: Bench) -> None:
    absent(bench)
    bench.history.add("r1", cost_usd=Decimal("0.004"))
    assert look_before_buying(bench) == []
    found = record(bench)
    assert (found.state, found.request_id, found.owner) == ("submitted", "r1", None)


def test_a_request_that_turns_up_after_a_second_purchase_is_a_duplicate(bench: Bench) -> None:
    absent(bench)
    now = bench.clock.now()
    claim = bench.ledger.write(
        moves.claim, generation_id="g0", owner="o", run_id=None, prompt_set="s", reserved_usd=Decimal("0.01"),
        caps=Caps(), rate_wait_ms=0, now=now,
    )  # fmt: skip
    bench.ledger.write(moves.mark_submitted, claim, request_id="r2", http_status=200, now=now)
    bench.history.add("r1", cost_usd=Decimal("0.004"))
    bench.history.add("r2")
    assert look_before_buying(bench) == []
    assert (record(bench).state, record(bench).request_id) == ("submitted", "r2")
    spent = bench.ledger.read(reads.spent, run_id=None, day=now.date().isoformat(), prompt_set="s")
    assert spent.set_usd == Decimal("0.014")
    # told once, however often it is read
    assert look_before_buying(bench) == []
    assert bench.ledger.read(reads.spent, run_id=None, day=now.date().isoformat(), prompt_set="s") == spent


def fail(bench: Bench, claim: Claim, kind: str) -> None:
    bench.ledger.write(
        writes.mark_failed, claim, target="failed", failure_kind=kind, error="busy", http_status=503,
        cost_usd=Decimal(0), now=bench.clock.now(),
    )  # fmt: skip


@pytest.mark.parametrize("second", ["refused", "its job failed", "absent"])
def test_a_first_attempt_that_turns_up_prevents_a_third_purchase(bench: Bench, second: str) -> None:
    absent(bench)
    if second == "absent":
        absent(bench)
    else:
        claim = bench.send("g0", BODY)
        if second == "its job failed":
            bench.ledger.write(moves.mark_submitted, claim, request_id="failed", http_status=200, now=bench.clock.now())
        fail(bench, claim, "job_failed" if second == "its job failed" else "server_error")
    bench.history.add("r1", cost_usd=Decimal("0.004"))
    assert look_before_buying(bench) == []
    found = record(bench)
    assert (found.state, found.request_id, found.attempts) == ("submitted", "r1", 2)
    taken = bench.ledger.write(
        writes.take_over, generation_id="g0", old_owner=None, owner="collects", now=bench.clock.now()
    )
    assert taken.attempt == 2
    spent = bench.ledger.read(reads.spent, run_id=None, day=bench.clock.now().date().isoformat(), prompt_set="s")
    assert spent.set_usd == Decimal("0.004")
    # a second request that turns up was paid for beside it
    bench.history.add("r2", cost_usd=Decimal("0.003"))
    assert look_before_buying(bench) == []
    assert record(bench).request_id == "r1"
    others = set() if second == "its job failed" else {"r2"}
    assert bench.ledger.read(reads.owned_requests, ["r2"]).keys() == others


def test_a_row_is_left_to_a_later_pending_attempt(bench: Bench) -> None:
    absent(bench)
    bench.send("g0", BODY)
    bench.history.add("r1")
    booked = bench.ledger.write(
        writes.charge_late, "g0", 1, request_id="r1", created_at=None, cost_usd=None, now=bench.clock.now()
    )
    assert booked is None
    # the run that sent it finds it
    assert bench.find(BODY) == [Found("r1")]


def test_a_late_request_goes_to_the_equal_generation_without_an_output(
    bench: Bench,
) -> None:
    absent(bench, "bought again")
    now = bench.clock.now()
    claim = bench.send("bought again", BODY)
    bench.ledger.write(moves.mark_submitted, claim, request_id="r0", http_status=200, now=now)
    absent(bench, "not bought")
    bench.history.add("r0")
    bench.history.add("r1")
    assert look_before_buying(bench) == []
    assert (record(bench, "not bought").state, record(bench, "not bought").request_id) == ("submitted", "r1")


def test_before_buying_a_run_finds_paid_requests_missing_in_the_ledger(bench: Bench) -> None:
    planned = [Submission(key=f"p{n}", model_slug=SLUG, body={**BODY, "seed": n}) for n in range(3)]
    bench.history.add("r1", {**BODY, "seed": 1})
    bench.history.add("r2", {"prompt": "A PEAR", "seed": 2.0, "steps": 4})
    bench.history.add("theirs", OTHER)
    assert look_before_buying(bench, *planned) == ["r1", "r2"]


def test_a_submission_that_is_looked_up_does_not_stop_the_plan(bench: Bench) -> None:
    bench.send("lost", BODY)
    bench.history.add("r1")
    twin = Submission(key="p", model_slug=SLUG, body=BODY)
    assert look_before_buying(bench, twin, replace(twin, key="q", body=OTHER)) == []


def test_a_failed_request_does_not_stop_a_run(bench: Bench) -> None:
    bench.history.add("r1", status="FAILED")
    assert look_before_buying(bench, Submission(key="p", model_slug=SLUG, body=BODY)) == []


def find_before_retry(
    bench: Bench, *, goes_on: bool = True, body: Mapping[str, Any] = BODY, took_s: float = 0.0, **options: Any
) -> Any:
    """The fate of a submission that was answered with an error after so long and is to be sent again."""
    sent_at = bench.clock.now()
    bench.clock.advance(took_s)

    async def look() -> Any:
        lookup = bench.lookup()
        try:
            return await lookup.find_before_retry(
                "g0", find_model(SLUG), body, sent_at, goes_on=lambda: goes_on, **options
            )
        finally:
            await lookup.close()

    return asyncio.run(look())


def test_before_a_retry_the_history_has_to_list_what_was_accepted_since(bench: Bench) -> None:
    bench.control(at_s=90)
    assert find_before_retry(bench) == "absent"
    assert SETTLE_S <= bench.history.looks[-1] < SETTLE_S + 31


def test_a_job_that_was_made_and_is_listed_late_is_found_before_a_retry(bench: Bench) -> None:
    bench.control(at_s=90)
    bench.history.add("r1", at_s=90)
    assert find_before_retry(bench) == Found("r1")


@pytest.mark.parametrize("slug", [V1_SLUG, None])
def test_without_a_control_of_the_model_a_retry_waits_for_three_settling_times(bench: Bench, slug: str | None) -> None:
    if slug is not None:
        bench.control(slug=slug)
    assert find_before_retry(bench) == "absent"
    assert SETTLE_S * RUN_STAYS_OPEN <= bench.clock.monotonic() < SETTLE_S * RUN_STAYS_OPEN + 31


def test_a_run_that_sends_nothing_more_does_not_wait_for_the_fate_of_an_error(bench: Bench) -> None:
    assert find_before_retry(bench, goes_on=False) == "unresolved"
    assert len(bench.history.looks) == 1


def test_an_adopted_request_is_no_control_for_later_submissions(bench: Bench) -> None:
    """When it was found says nothing of how far the history has come."""
    claim = bench.send("of r0", OTHER)
    bench.history.add("r0", OTHER)
    bench.clock.advance(1)
    found_at = bench.clock.now() + timedelta(seconds=1)
    bench.ledger.write(moves.mark_submitted, claim, request_id="r0", http_status=None, now=found_at)
    assert bench.find(BODY) == ["unresolved"]


def test_an_adopted_request_may_be_older_than_its_post(bench: Bench) -> None:
    """An equal POST, sent earlier, may have made it: how late the history is cannot be told by it."""
    sent_at = bench.clock.now()
    bench.clock.advance(10)
    claim = bench.send("of r0", OTHER)
    bench.history.add("r0", OTHER)
    bench.ledger.write(moves.mark_submitted, claim, request_id="r0", http_status=429, now=bench.clock.now())

    async def look() -> Any:
        lookup = bench.lookup()
        try:
            return (
                await lookup.find("g0", find_model(SLUG), BODY, sent_at),
                await lookup.find_before_retry("g1", find_model(SLUG), BODY, bench.clock.now(), goes_on=lambda: False),
            )
        finally:
            await lookup.close()

    assert asyncio.run(look()) == ("unresolved", "unresolved")


def test_a_request_that_was_accepted_before_the_error_is_no_control(bench: Bench) -> None:
    bench.control()
    bench.clock.advance(20)
    assert find_before_retry(bench) == "absent"
    assert bench.clock.monotonic() >= 20 + SETTLE_S * RUN_STAYS_OPEN


@pytest.mark.parametrize("is_lost", [True, False])
@pytest.mark.parametrize(
    ("status", "waits_s"), [("COMPLETED", SETTLE_S + 300), (None, SETTLE_S + 300), ("QUEUED", SETTLE_S)]
)
def test_absence_waits_for_the_job_until_the_history_lists_an_unfinished_one(
    bench: Bench, status: str | None, waits_s: float, *, is_lost: bool
) -> None:
    """A finished job whose end the ledger has not seen yet is no unfinished one."""
    bench.over_s = bench.likely_over_s = 300.0
    bench.control(status=status)
    fate = bench.find(BODY, stays_open=COLLECT_STAYS_OPEN)[0] if is_lost else find_before_retry(bench)
    assert fate == "absent"
    assert waits_s <= bench.clock.monotonic() < waits_s + 31


def test_one_failed_job_explains_the_error_of_one_submission(bench: Bench) -> None:
    bench.history.add("r1", status="FAILED")

    async def both() -> list[tuple[Any, float]]:
        lookup = bench.lookup()

        async def look(key: str) -> tuple[Any, float]:
            fate = await lookup.find_before_retry(key, find_model(SLUG), BODY, bench.clock.now(), goes_on=lambda: True)
            return fate, bench.clock.monotonic()

        fates = await asyncio.gather(look("g0"), look("g1"))
        await lookup.close()
        return fates

    (first, first_s), (second, second_s) = sorted(asyncio.run(both()), key=lambda each: each[1])
    assert (first, second) == ("absent", "unresolved")
    assert first_s < 2 * SETTLE_S < second_s


@pytest.mark.parametrize("at_s", [31, 119])
def test_a_job_that_is_listed_later_than_the_control_is_found_before_a_retry(bench: Bench, at_s: float) -> None:
    """How late the history is may differ from row to row."""
    bench.control(at_s=30)
    bench.history.add("r1", at_s=at_s)
    assert find_before_retry(bench, took_s=10) == Found("r1")


def test_a_retry_waits_for_accepted_requests_to_be_listed(bench: Bench) -> None:
    bench.control(at_s=90)
    assert find_before_retry(bench) == "absent"


def test_a_possibly_matching_row_prevents_a_retry(bench: Bench) -> None:
    bench.control()
    bench.history.add("r1", {"prompt": "a pe..."})
    assert find_before_retry(bench) == "unresolved"


def test_a_submission_listed_as_failed_is_sent_again_after_the_settling_time(bench: Bench) -> None:
    bench.history.add("r1", status="FAILED")
    assert find_before_retry(bench) == "absent"
    assert SETTLE_S <= bench.clock.monotonic() < SETTLE_S + 31


def test_a_foreign_failed_job_hides_no_job_that_is_listed_late(bench: Bench) -> None:
    bench.send("g0", BODY)
    bench.history.add("of somebody else", status="FAILED")
    bench.history.add("r1", at_s=100)
    assert find_before_retry(bench) == Found("r1")


def test_a_job_that_failed_long_before_a_submission_does_not_explain_it(bench: Bench) -> None:
    bench.history.add("r1", status="FAILED", created_s=-600)
    assert find_before_retry(bench) == "absent"
    assert bench.clock.monotonic() >= SETTLE_S * RUN_STAYS_OPEN


def test_a_run_reads_back_to_what_it_is_about_to_send_again(bench: Bench) -> None:
    """An error was answered to it, and the job was made all the same; a page may hold younger rows only."""
    sent_at = bench.clock.now()
    fail(bench, bench.send("g0", BODY), "invalid_request")
    bench.clock.advance(3600)
    bench.own("control")
    look_before_buying(bench, Submission(key="other", model_slug=SLUG, body=OTHER))
    assert bench.history.since[-1] > sent_at
    look_before_buying(bench, Submission(key="g0", model_slug=SLUG, body=BODY))
    assert bench.history.since[-1] <= sent_at


@pytest.mark.parametrize(("made_before_s", "stops"), [(60, True), (SETTLE_S + 1, False)])
@pytest.mark.parametrize("decided_by", ["a rebuild", "a person"])
def test_a_decision_made_before_the_history_must_list_a_request_is_made_again(
    bench: Bench, decided_by: str, made_before_s: float, *, stops: bool
) -> None:
    bench.history.add("r1", {"prompt": "a pe..."}, created_s=600)
    bench.clock.advance(600 + made_before_s)
    if decided_by == "a rebuild":
        bench.ledger.write(entries.note, {REBUILT_AT: bench.clock.now().isoformat()})
    else:
        absent(bench, reason=ABSENT_BY_WORD)
    planned = Submission(key="g0", model_slug=SLUG, body=BODY)
    assert look_before_buying(bench, planned) == (["r1"] if stops else [])


@pytest.mark.parametrize(("body", "model", "stops"), [
    (None, SLUG, True), ({"inputs": BODY}, SLUG, True), ({"prompt": "a pe..."}, SLUG, True), (None, V1_SLUG, False),
    (OTHER, SLUG, False),
])  # fmt: skip
def test_an_unowned_request_that_may_match_the_plan_stops_the_run(
    bench: Bench, body: Any, model: str, *, stops: bool
) -> None:
    bench.history.add("r1", body, model=model)
    planned = Submission(key="p", model_slug=SLUG, body=BODY)
    assert look_before_buying(bench, planned) == (["r1"] if stops else [])


@pytest.mark.parametrize(("digest", "stops"), [("of ours", True), (None, True), ("of another", False)])
def test_a_request_with_another_picture_differs_and_an_unreadable_picture_leaves_doubt(
    bench: Bench, digest: str | None, *, stops: bool
) -> None:
    bench.history.add("r1", {**BODY, "image": "https://elsewhere/1.png"})

    async def digest_at(address: str) -> str | None:
        assert address == "https://elsewhere/1.png"
        return digest

    found = asyncio.run(
        bench.lookup().look_before_buying(
            [Submission(key="p", model_slug=SLUG, body=BODY)],
            pictures={"p": {"image": "of ours"}},
            digest_at=digest_at,
        )
    )
    assert [row.request_id for _, row in found] == (["r1"] if stops else [])


def test_rows_of_an_incomplete_reading_can_stop_a_purchase(bench: Bench) -> None:
    class Broken(History):
        async def history(self, *, since: datetime, now: datetime, is_whole: bool = True) -> list[HistoryRow]:
            rows = await super().history(since=since, now=now, is_whole=is_whole)
            raise BrokenOffError(GatewayError("unknown_outcome", "page 2 is page 1 again"), rows)

    bench.history = Broken(bench.clock)
    planned = Submission(key="p", model_slug=SLUG, body=BODY)
    with pytest.raises(GatewayError):
        look_before_buying(bench, planned)
    bench.history.add("r1")
    assert look_before_buying(bench, planned) == ["r1"]


def test_a_second_folder_with_equal_purchases_leaves_a_lost_submission_in_doubt(bench: Bench) -> None:
    bench.control()
    bench.history.add("of another folder", OTHER)
    bench.history.add("r1")
    bench.send("g0", BODY)
    assert bench.find(BODY) == ["unresolved"]


def test_two_equal_rows_for_one_lost_submission_are_not_adopted(bench: Bench) -> None:
    bench.control()
    bench.send("g0", BODY)
    bench.history.add("r1")
    bench.history.add("r2")
    assert bench.find(BODY) == ["unresolved"]


def test_equal_rows_of_our_own_submissions_do_not_indicate_another_folder(bench: Bench) -> None:
    bench.own("r0", BODY)
    bench.history.add("r0")
    for key in ("g0", "g1"):
        bench.send(key, BODY)
    bench.history.add("r1")
    bench.history.add("r2")
    assert sorted(fate.request_id for fate in bench.find(BODY, BODY)) == ["r1", "r2"]


def test_with_a_second_folder_only_missing_rows_prove_absence(bench: Bench) -> None:
    bench.control()
    bench.history.add("of another folder", OTHER)
    for key in ("g0", "g1"):
        bench.send(key, BODY)
    bench.history.add("r1")
    assert sorted(bench.find(BODY, BODY)) == ["absent", "unresolved"]
    bench.history.add("r2")
    assert bench.find(BODY, BODY) == ["unresolved", "unresolved"]


def test_a_row_of_our_older_submission_does_not_indicate_another_folder(bench: Bench) -> None:
    absent(bench, "old")
    bench.own("of old times", BODY)
    bench.clock.advance(7200)
    bench.send("g0", {**BODY, "seed": 8})
    for request_id in ("of old times", "found at last"):
        bench.history.add(request_id)
    bench.history.add("r1", {**BODY, "seed": 8}, created_s=7200)
    assert bench.find({**BODY, "seed": 8}) == [Found("r1")]


ELSE = {"prompt": "a bicycle that leans against a wall", "seed": 3}


def test_beside_foreign_purchases_an_equal_row_is_adopted_after_a_control(
    bench: Bench,
) -> None:
    bench.send("g0", BODY)
    bench.history.add("of somebody else", ELSE)
    bench.history.add("r1")
    bench.control(at_s=5)
    assert bench.find(BODY) == [Found("r1")]
    assert bench.clock.monotonic() >= 5


def test_two_equal_rows_that_appear_one_after_the_other_are_not_adopted(bench: Bench) -> None:
    """The history is late, and lists another folder's request before the one whose answer was lost."""
    bench.send("g0", BODY)
    bench.history.add("of somebody else", ELSE)
    bench.history.add("of another folder")
    bench.history.add("r1", at_s=5)
    bench.control(at_s=5)
    assert bench.find(BODY) == ["unresolved"]


def test_foreign_requests_older_than_a_submission_delay_nothing(bench: Bench) -> None:
    bench.own("ours", OTHER)
    bench.history.add("of somebody else", ELSE)
    bench.history.add("repeated by hand", OTHER)
    bench.history.add("ours", OTHER)
    bench.clock.advance(3600)
    bench.send("g0", BODY)
    bench.history.add("r1", created_s=3600)
    assert bench.find(BODY) == [Found("r1")]
    assert bench.clock.monotonic() < 3601


def test_beside_foreign_purchases_an_equal_row_is_adopted_after_the_settling_time(bench: Bench) -> None:
    bench.send("g0", BODY)
    bench.history.add("of somebody else", ELSE)
    bench.history.add("r1")
    assert bench.find(BODY) == [Found("r1")]
    assert bench.clock.monotonic() >= SETTLE_S


def test_a_similar_foreign_job_that_failed_leaves_no_doubt(bench: Bench) -> None:
    bench.control()
    bench.send("g0", BODY)
    bench.history.add("failed", {**BODY, "prompt": "a p"}, status="FAILED")
    assert bench.find(BODY) == ["absent"]
