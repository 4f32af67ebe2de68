"""Random walks of operations over a real ledger: no illegal state, and money that always adds up."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test
from lab.ledger import NOON, ORIGIN, Book

from segmind_dagster.errors import BudgetError, SegmindDagsterError
from segmind_dagster.ledger import Caps, Claim, open_ledger, writes
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, SPENDING
from segmind_dagster.lifecycle.states import TRANSITIONS

IDS = ("a", "b", "c")
generations = st.sampled_from(IDS)
owners = st.sampled_from(["me", "you"])
amounts = st.integers(0, 2 * 10**9).map(lambda nano: Decimal(nano) / 10**9)
moments = st.sampled_from([NOON, NOON + timedelta(hours=11, minutes=59), NOON + timedelta(days=1)])


class Walk(RuleBasedStateMachine):
    """Does what runs do, in any order, also with claims that were lost long ago."""

    claims = Bundle("claims")
    # a ledger with its tables, to be copied: making them anew would take most of the time
    empty: ClassVar[Path]
    home: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.home))
        path = shutil.copy(self.empty, self.folder / "ledger.sqlite")
        self.ledger = open_ledger(f"sqlite:///{path}", api_origin=ORIGIN, holds_outputs=lambda: None)
        self.book = Book(self.ledger)
        self.book.plan(*IDS)
        self.states = dict.fromkeys(IDS, "planned")
        self.requests = 0
        self.highest_usd = Decimal(0)

    def attempt_to(self, operation: Any, *args: Any, **kwargs: Any) -> tuple[bool, Any]:
        """Whether the operation was done, and its result; when it was refused, it must have changed nothing."""
        before = self.book.everything()
        try:
            return True, operation(*args, **kwargs)
        except SegmindDagsterError:
            assert self.book.everything() == before, "a refused operation changed the ledger"
            return False, None

    def attempt_with(self, held: Claim, operation: Any, *args: Any, **kwargs: Any) -> None:
        """The same, for what only the holder of the claim may do."""
        record = self.book.record(held.generation_id)
        is_holder = (record.owner, record.attempts) == (held.owner, held.attempt)
        is_done, _ = self.attempt_to(operation, *args, **kwargs)
        assert is_holder or not is_done, f"{held} was lost and changed the ledger all the same"

    @rule(target=claims, generation_id=generations, owner=owners, reserved_usd=amounts, cap=amounts, now=moments)
    def claim(self, generation_id: str, owner: str, reserved_usd: Decimal, cap: Decimal, now: Any) -> Any:
        committed = self.book.day_usd(now.date().isoformat())
        before = self.book.everything()
        try:
            held = self.book.claim(generation_id, owner, reserved_usd=reserved_usd, caps=Caps(day_usd=cap), now=now)
        except BudgetError:
            # what is open or unreported may count as up to ten times what it has reserved, and a price may have risen
            assert self.highest_usd or 10 * (committed + reserved_usd) > cap
            held = None
        except SegmindDagsterError:
            assert self.states[generation_id] != "planned"
            held = None
        if held is None:
            assert self.book.everything() == before
            return multiple()
        assert committed + reserved_usd <= cap
        return held

    @rule(held=claims)
    def submitted(self, held: Claim) -> None:
        self.requests += 1
        self.attempt_with(held, self.book.submitted, held, f"r-{self.requests}")

    @rule(held=claims)
    def unknown(self, held: Claim) -> None:
        self.attempt_with(held, self.book.unknown, held)

    @rule(held=claims, cost_usd=st.none() | amounts, now=moments)
    def succeeded(self, held: Claim, cost_usd: Decimal | None, now: Any) -> None:
        self.highest_usd = max(self.highest_usd, cost_usd or 0)
        self.attempt_with(held, self.book.succeeded, held, cost_usd=cost_usd, completed_at=now)

    @rule(held=claims, into=st.sampled_from(["failed", "planned"]), cost_usd=st.none() | amounts)
    def failed(self, held: Claim, into: str, cost_usd: Decimal | None) -> None:
        self.highest_usd = max(self.highest_usd, cost_usd or 0)
        self.attempt_with(held, self.book.failed, held, target=into, cost_usd=cost_usd)

    @rule(held=claims)
    def forgotten(self, held: Claim) -> None:
        if self.states[held.generation_id] == "unknown":
            self.attempt_with(held, self.ledger.write, writes.mark_absent, held, reason="not listed", now=NOON)

    @rule(generation_id=generations, into=st.sampled_from(["planned", "submitted"]))
    def reopened(self, generation_id: str, into: str) -> None:
        self.attempt_to(self.book.reopened, generation_id, into)

    @rule(target=claims, generation_id=generations, old_owner=st.none() | owners, owner=owners)
    def taken_over(self, generation_id: str, old_owner: str | None, owner: str) -> Any:
        _, held = self.attempt_to(self.book.taken_over, generation_id, old_owner, owner)
        return multiple() if held is None else held

    @rule(asked_for=st.lists(generations, unique=True))
    def registered(self, asked_for: list[str]) -> None:
        self.book.plan(*asked_for)

    @invariant()
    def every_state_was_reached_by_moves_of_the_table(self) -> None:
        for row in self.book.rows(GENERATIONS):
            was, now_is = self.states[row["generation_id"]], row["state"]
            assert now_is == was or now_is in TRANSITIONS[was], f"{row['generation_id']} went from {was} to {now_is}"
            self.states[row["generation_id"]] = now_is

    @invariant()
    def the_days_hold_what_the_attempts_cost_or_have_put_aside(self) -> None:
        days = {
            row["name"]: row["committed_usd"]
            for row in self.book.rows(SPENDING)
            if row["scope"] == "day" and row["committed_usd"]
        }
        assert days == self.book.attempts_usd()

    @invariant()
    def every_claim_is_one_attempt_and_money_in_the_air_has_an_owner(self) -> None:
        attempts = self.book.rows(ATTEMPTS)
        for row in self.book.rows(GENERATIONS):
            numbers = sorted(a["attempt"] for a in attempts if a["generation_id"] == row["generation_id"])
            assert numbers == list(range(1, row["attempts"] + 1))
            assert row["state"] not in {"submitting", "unknown"} or row["owner"] is not None
        assert all(a["cost_usd"] is not None for a in attempts if a["state"] in {"succeeded", "failed"})

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)


@pytest.mark.hypothesis  # which plain properties get by themselves
def test_random_operations_never_reach_an_illegal_state_or_lose_money(tmp_path: Path, empty_ledger: Path) -> None:
    walk = type("WalkHere", (Walk,), {"empty": empty_ledger, "home": tmp_path})
    run_state_machine_as_test(walk, settings=settings(stateful_step_count=25))
