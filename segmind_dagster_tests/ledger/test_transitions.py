"""Every state change: the table of moves, the claims that guard it, and the money that moves along."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import product
from typing import TYPE_CHECKING, Any, get_args

import pytest
from lab.ledger import CENT, DAY, NOON, Book
from sqlalchemy import delete, update

from segmind_dagster.errors import (
    BudgetError,
    IllegalTransitionError,
    LedgerError,
    LostOwnershipError,
    RequestOwnedError,
)
from segmind_dagster.ledger import Caps, Claim, State, reads, statements, writes
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS
from segmind_dagster.lifecycle.states import IN_PROGRESS, TRANSITIONS, check_transition

if TYPE_CHECKING:
    from collections.abc import Callable


STATES = get_args(State)
MOVES: dict[str, tuple[set[str], Callable[[Book, Claim], Any]]] = {
    "mark_submitted": ({"submitting", "unknown"}, lambda book, held: book.submitted(held, "r-new")),
    "mark_unknown": ({"submitting"}, lambda book, held: book.unknown(held)),
    "mark_succeeded": ({"submitted"}, lambda book, held: book.succeeded(held)),
    "mark_failed for good": ({"submitting", "submitted"}, lambda book, held: book.failed(held)),
    "mark_failed, again": (
        {"submitting", "submitted", "unknown"},
        lambda book, held: book.failed(held, target="planned"),
    ),
}
ALLOWED = [(state, name) for name, (origins, _) in MOVES.items() for state in STATES if state in origins]
# what is planned and was never claimed has no attempt to settle
REFUSED = [
    (state, name)
    for name, (origins, _) in MOVES.items()
    for state in STATES
    if state not in origins and (state != "planned" or name in {"mark_submitted", "mark_unknown"})
]


def test_the_table_holds_exactly_the_moves_of_the_design() -> None:
    assert {(origin, target) for origin, targets in TRANSITIONS.items() for target in targets} == {
        ("planned", "submitting"),
        ("planned", "failed"),
        ("planned", "submitted"),
        ("submitting", "submitted"),
        ("submitting", "planned"),
        ("submitting", "failed"),
        ("submitting", "unknown"),
        ("submitted", "succeeded"),
        ("submitted", "failed"),
        ("submitted", "planned"),
        ("unknown", "submitted"),
        ("unknown", "planned"),
        ("failed", "planned"),
        ("failed", "submitted"),
    }


@pytest.mark.parametrize(("current", "target"), product(STATES, STATES))
def test_a_move_that_is_not_in_the_table_is_refused(current: Any, target: Any) -> None:
    if target in TRANSITIONS[current]:
        check_transition("g", current, target)
        return
    with pytest.raises(IllegalTransitionError, match=f"from '{current}' to '{target}'") as raised:
        check_transition("g", current, target)
    assert (raised.value.generation_id, raised.value.current, raised.value.target) == ("g", current, target)


def test_every_state_with_an_open_reservation_is_in_progress() -> None:
    assert set(IN_PROGRESS) == set(STATES) - {"planned", "succeeded", "failed"}


@pytest.mark.parametrize(("state", "move"), ALLOWED)
def test_an_operation_moves_what_its_claim_holds(book: Book, state: str, move: str) -> None:
    held = book.in_state("g", state)
    MOVES[move][1](book, held)
    moved = book.record("g").state
    assert moved in TRANSITIONS[state]
    assert moved != state


@pytest.mark.parametrize(("state", "move"), REFUSED)
def test_an_operation_refuses_a_state_it_may_not_leave_and_changes_nothing(book: Book, state: str, move: str) -> None:
    held = book.in_state("g", state)
    before = book.everything()
    with pytest.raises((IllegalTransitionError, LostOwnershipError)):
        MOVES[move][1](book, held)
    assert book.everything() == before


@pytest.mark.parametrize(("state", "move"), ALLOWED)
def test_a_run_that_lost_its_claim_changes_nothing(book: Book, state: str, move: str) -> None:
    held = book.in_state("g", state)
    before = book.everything()
    with pytest.raises(LostOwnershipError) as raised:
        MOVES[move][1](book, Claim("g", held.attempt, "somebody else"))
    assert raised.value.generation_id == "g"
    assert book.everything() == before


def test_the_claim_of_an_earlier_attempt_cannot_touch_a_later_one(book: Book) -> None:
    book.plan("g")
    first = book.claim("g")
    book.failed(first, target="planned")
    second = book.submitted(book.claim("g"))
    before = book.everything()
    for move in (book.submitted, book.unknown, book.failed, book.succeeded):
        with pytest.raises(LostOwnershipError):
            move(first)
    assert book.everything() == before
    book.succeeded(second)


@pytest.mark.parametrize("move", ["mark_submitted", "mark_unknown"])
def test_a_generation_that_does_not_exist_is_named(book: Book, move: str) -> None:
    with pytest.raises(LedgerError, match="ghost"):
        MOVES[move][1](book, Claim("ghost", 1, "me"))


def test_a_generation_goes_from_plan_to_output_and_its_attempt_with_it(book: Book) -> None:
    book.plan("g")
    held = book.claim("g", rate_wait_ms=70)
    assert (book.record("g").state, book.attempt(held)["state"]) == ("submitting", "submitting")
    book.submitted(held, "r-1")
    assert (book.record("g").request_id, book.attempt(held)["request_id"]) == ("r-1", "r-1")
    assert book.succeeded(held, seed=77) == (Decimal("0.0055"), False)
    (row,) = book.rows(GENERATIONS)
    assert (row["state"], row["owner"], row["cost_usd"], row["cost_source"]) == (
        "succeeded", None, Decimal("0.0055"), "reported",
    )  # fmt: skip
    assert (row["seed"], row["output_sha256"], row["latency_ms"]) == (77, "stored", 2500)
    attempt = book.attempt(held)
    assert (attempt["state"], attempt["cost_usd"], attempt["rate_wait_ms"]) == ("succeeded", Decimal("0.0055"), 70)
    assert (attempt["intent_at"], attempt["submitted_at"], attempt["completed_at"]) == (NOON, NOON, NOON)


def test_a_claim_is_taken_by_one_run_only(book: Book) -> None:
    book.plan("g")
    mine = book.claim("g", "me")
    with pytest.raises(LostOwnershipError):
        book.claim("g", "you")
    assert (mine.attempt, book.record("g").owner, book.count()) == (1, "me", 1)
    assert book.day_usd() == CENT


@pytest.mark.parametrize("state", [state for state in STATES if state != "planned"])
def test_only_what_is_planned_can_be_claimed(book: Book, state: str) -> None:
    book.in_state("g", state)
    before = book.everything()
    with pytest.raises(LostOwnershipError):
        book.claim("g", "you")
    assert book.everything() == before


def test_each_claim_is_an_attempt_of_its_own(book: Book) -> None:
    book.plan("g")
    for number in (1, 2, 3):
        assert book.failed(book.claim("g"), target="planned").attempt == number
    assert [row["attempt"] for row in book.rows(ATTEMPTS)] == [1, 2, 3]
    assert book.record("g").attempts == 3
    assert book.day_usd() == 0


def test_the_day_cap_refuses_the_claim_that_would_exceed_it(book: Book) -> None:
    book.plan("a", "b", "c")
    book.priced()
    cap = Decimal("0.025")
    book.claim("a", caps=Caps(day_usd=cap))
    book.claim("b", caps=Caps(day_usd=cap))
    before = book.everything()
    with pytest.raises(BudgetError) as raised:
        book.claim("c", caps=Caps(day_usd=cap))
    for text in ("day cap", "cap of $0.025", "$0.0200 reserved", DAY, "$0.0100", "SEGMIND_DAILY_BUDGET_USD"):
        assert text in str(raised.value)
    assert book.everything() == before


def test_the_day_cap_may_be_used_to_the_last_cent_and_is_new_every_day(book: Book) -> None:
    book.plan("a", "b", "c")
    book.priced()
    book.claim("a", caps=Caps(day_usd=CENT))
    with pytest.raises(BudgetError):
        book.claim("b", caps=Caps(day_usd=CENT))
    tomorrow = NOON + timedelta(days=1)
    book.priced(now=tomorrow)
    book.claim("b", caps=Caps(day_usd=CENT), now=tomorrow)
    assert (book.day_usd(), book.day_usd("2026-01-03")) == (CENT, CENT)


def test_a_reservation_is_settled_on_the_day_it_was_made(book: Book) -> None:
    book.plan("g")
    held = book.submitted(book.claim("g"))
    book.succeeded(held, completed_at=NOON + timedelta(days=1))
    assert (book.day_usd(), book.day_usd("2026-01-03")) == (Decimal("0.0055"), Decimal(0))


@pytest.mark.parametrize(
    ("cost_usd", "charged", "source"),
    [
        (Decimal("0.0055"), Decimal("0.0055"), "reported"),
        (Decimal(0), Decimal(0), "reported"),
        (Decimal("0.5"), Decimal("0.5"), "reported"),
        (None, CENT, "estimated"),
    ],
)
def test_success_settles_the_reservation_with_what_was_reported(
    book: Book, cost_usd: Decimal | None, charged: Decimal, source: str
) -> None:
    book.plan("g")
    held = book.submitted(book.claim("g"))
    assert book.succeeded(held, cost_usd=cost_usd) == (charged, cost_usd is None)
    assert book.day_usd() == charged
    assert (book.attempt(held)["cost_usd"], book.attempt(held)["cost_source"]) == (charged, source)


def test_a_cost_from_the_history_is_marked_as_such(book: Book) -> None:
    book.plan("a", "b")
    kept, lost = book.submitted(book.claim("a")), book.submitted(book.claim("b"))
    book.succeeded(kept, cost_source="history")
    book.failed(lost, failure_kind="expired", cost_usd=CENT, cost_source="history")
    assert [book.attempt(held)["cost_source"] for held in (kept, lost)] == ["history", "history"]


def test_a_free_failure_frees_its_reservation(book: Book) -> None:
    book.plan("g")
    held = book.failed(book.claim("g"))
    assert book.day_usd() == 0
    assert (book.attempt(held)["cost_usd"], book.record("g").cost_usd) == (Decimal(0), None)
    assert (book.record("g").state, book.record("g").failure_kind) == ("failed", "server_error")


@pytest.mark.parametrize(
    ("cost_usd", "charged"), [(Decimal("0.004"), Decimal("0.004")), (None, CENT)], ids=["known", "not known"]
)
def test_a_paid_failure_keeps_its_cost_and_fetching_again_charges_nothing_more(
    book: Book, cost_usd: Decimal | None, charged: Decimal
) -> None:
    book.plan("g")
    held = book.submitted(book.claim("g"))
    book.failed(held, failure_kind="bad_output", cost_usd=cost_usd)
    assert (book.day_usd(), book.record("g").cost_usd) == (charged, charged)
    book.reopened("g", "submitted")
    again = book.taken_over("g", None)
    assert again.attempt == held.attempt
    assert book.succeeded(again, cost_usd=None) == (0, False)
    assert (book.day_usd(), book.count()) == (charged, 1)


def test_a_late_reported_cost_returns_its_difference_to_the_estimate(book: Book) -> None:
    book.plan("g")
    held = book.submitted(book.claim("g"))
    book.failed(held, failure_kind="bad_output", cost_usd=None)
    book.reopened("g", "submitted")
    again = book.taken_over("g", None)
    assert book.succeeded(again, cost_usd=Decimal("0.004")) == (Decimal("0.004") - CENT, False)
    assert book.day_usd() == Decimal("0.004")


@pytest.mark.parametrize(("estimate_usd", "charged"), [(Decimal("0.003"), Decimal("0.003")), (Decimal(1), CENT)])
def test_an_unreported_cost_is_estimated_within_the_reservation(
    book: Book, estimate_usd: Decimal, charged: Decimal
) -> None:
    book.plan("stored", "given up")
    held = book.submitted(book.claim("stored"))
    assert book.succeeded(held, cost_usd=None, estimate_usd=estimate_usd) == (charged, True)
    book.failed(book.submitted(book.claim("given up")), cost_usd=None, estimate_usd=estimate_usd)
    assert book.day_usd() == 2 * charged


def test_an_unknown_submission_keeps_its_reservation_until_it_is_decided(book: Book) -> None:
    book.plan("found", "forgotten")
    found, forgotten = book.unknown(book.claim("found")), book.unknown(book.claim("forgotten"))
    assert book.day_usd() == 2 * CENT
    book.ledger.write(writes.mark_absent, forgotten, reason="not listed", now=NOON)
    assert (book.record("forgotten").state, book.day_usd()) == ("planned", CENT)
    assert book.attempt(forgotten)["cost_usd"] == 0
    book.submitted(found, "r-9")
    assert (book.record("found").failure_kind, book.record("found").error) == (None, None)
    assert book.succeeded(found) == (Decimal("0.0055"), False)
    assert book.claim("forgotten").attempt == 2


def test_a_request_belongs_to_one_attempt(book: Book) -> None:
    book.plan("a", "b")
    book.submitted(book.claim("a"), "r-1")
    second = book.claim("b")
    with pytest.raises(RequestOwnedError):
        book.submitted(second, "r-1")
    assert book.record("b").state == "submitting"
    assert book.ledger.read(reads.owned_requests, ["r-1", "r-2"]) == {"r-1": ("fast-flux-schnell", NOON)}


def test_the_database_itself_lets_no_request_belong_to_two_attempts(book: Book) -> None:
    book.plan("a", "b")
    book.submitted(book.claim("a"), "r-1")
    book.claim("b")
    with pytest.raises(LedgerError, match="UNIQUE constraint failed"):
        book.ledger.write(lambda connection: connection.execute(update(ATTEMPTS).values(request_id="r-1")))


@pytest.mark.parametrize("state", IN_PROGRESS)
def test_a_dead_runs_submission_is_taken_over_and_never_counts_as_unsent(book: Book, state: str) -> None:
    held = book.in_state("g", state)
    heir = book.taken_over("g", "me")
    assert heir == Claim("g", held.attempt, "heir")
    assert book.record("g").state == ("unknown" if state == "submitting" else state)
    assert book.attempt(heir)["state"] == book.record("g").state
    # what an earlier attempt failed of says nothing of this one
    assert book.record("g").failure_kind == ("unknown_outcome" if state in {"submitting", "unknown"} else None)
    assert book.day_usd() == CENT
    with pytest.raises(LostOwnershipError):
        book.submitted(held)


@pytest.mark.parametrize("state", ["planned", "succeeded", "failed"])
def test_a_generation_without_an_owner_cannot_be_taken_over(book: Book, state: str) -> None:
    book.in_state("g", state)
    before = book.everything()
    for old_owner in ("me", None):
        with pytest.raises(LostOwnershipError):
            book.taken_over("g", old_owner)
    assert book.everything() == before


def test_only_one_of_two_runs_takes_over(book: Book) -> None:
    book.in_state("g", "submitted")
    book.taken_over("g", "me", "first")
    with pytest.raises(LostOwnershipError):
        book.taken_over("g", "me", "second")
    assert book.record("g").owner == "first"


@pytest.mark.parametrize(("target", "claimable"), [("planned", True), ("submitted", False)])
def test_a_failure_is_reopened_to_be_bought_or_to_be_fetched(book: Book, target: str, claimable: bool) -> None:
    book.in_state("g", "failed")
    book.reopened("g", target)
    assert (book.record("g").state, book.record("g").owner) == (target, None)
    if claimable:
        assert book.claim("g").attempt == 2
    else:
        assert book.taken_over("g", None).attempt == 1


@pytest.mark.parametrize("state", [state for state in STATES if state != "failed"])
@pytest.mark.parametrize("target", ["planned", "submitted"])
def test_reopening_touches_failures_only(book: Book, state: str, target: str) -> None:
    book.in_state("g", state)
    before = book.everything()
    book.reopened("g", target)
    assert book.everything() == before


@pytest.mark.parametrize("target", ["submitting", "succeeded", "unknown", "failed"])
def test_a_failure_cannot_be_reopened_into_any_other_state(book: Book, target: str) -> None:
    book.in_state("g", "failed")
    with pytest.raises(IllegalTransitionError):
        book.reopened("g", target)


def test_reopening_skips_generations_that_changed_since(book: Book) -> None:
    book.plan(*"abcd")
    for generation_id, kind in (("a", "job_failed"), ("b", "bad_output"), ("c", "job_failed"), ("d", None)):
        book.failed(book.submitted(book.claim(generation_id)), failure_kind=kind)
    book.reopened("c", "planned")
    book.failed(book.submitted(book.claim("c")), failure_kind="job_failed")
    seen = {**dict.fromkeys("abc", ("job_failed", 1)), "d": (None, 1)}
    assert book.ledger.write(writes.reopen, seen, target="planned", now=NOON) == 2
    assert [book.record(each).state for each in "abcd"] == ["planned", "failed", "failed", "planned"]


def test_a_change_that_misses_rows_rolls_back_its_transaction(book: Book) -> None:
    book.plan("g")
    held = book.claim("g")
    book.ledger.write(lambda connection: connection.execute(delete(ATTEMPTS)))
    with pytest.raises(RuntimeError, match="0 of 1 rows"):
        book.submitted(held)
    assert [row["state"] for row in book.rows(GENERATIONS)] == ["submitting"]


def test_the_claim_statement_changes_only_planned_generations(book: Book) -> None:
    book.plan("g")
    book.claim("g", owner="the first")
    names = ("owner", "prompt_set", "run_id", "intent_at", "updated_at")
    again = {"held_id": "g", **statements.new({**dict.fromkeys(names), "owner": "the second"})}
    assert book.ledger.write(lambda connection: connection.execute(statements.CLAIM, [again]).rowcount) == 0
    assert [row["owner"] for row in book.rows(GENERATIONS)] == ["the first"]
