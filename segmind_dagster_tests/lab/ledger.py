"""What a run writes into a ledger, with the details that a test does not care about filled in."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from segmind_dagster.ledger import Caps, Claim, entries, money, moves, reads, writes
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, SET_GENERATIONS, SPENDING
from segmind_dagster.lifecycle.generation import Accounting, Attempt, Output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Table

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.lifecycle.generation import Generation

ORIGIN = "http://127.0.0.1:8777"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
DAY = "2026-01-02"
CENT = Decimal("0.01")


def generation(generation_id: str, **columns: Any) -> dict[str, Any]:
    return {
        "generation_id": generation_id,
        "model_slug": "fast-flux-schnell",
        "prompt": "a pear",
        "negative_prompt": None,
        "body": {"prompt": "a pear"},
        "images": {},
        "variables": {},
        "seed": 4,
        "sample": 0,
        **columns,
    }


def stored(held: Claim, **fields: Any) -> Attempt:
    """The attempt of a claim with a stored output; fields of its accounting and its output by their names."""
    accounting = {"cost_usd": Decimal("0.0055"), "queue_ms": 100, "inference_ms": 2000, "seed": None}
    output = {
        "uri": "outputs/fast_flux_schnell/g.png", "sha256": "stored", "size_bytes": 10, "format": "png", "width": 64,
        "height": 64,
    }  # fmt: skip
    attempt = {"provider_sha256": "came", "latency_ms": 2500, "completed_at": NOON}
    for usual in (accounting, output, attempt):
        usual.update({name: fields.pop(name) for name in list(fields) if name in usual})
    return Attempt(
        claim=held,
        request_id=f"r-{held.generation_id}-{held.attempt}",
        accounting=Accounting(**accounting),
        output=Output(**output),
        **{**attempt, **fields},
    )


class Book:
    """Moves generations of one ledger along."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def plan(
        self,
        *generation_ids: str,
        prompt_set: str = "set",
        resource: str = "flux",
        now: datetime = NOON,
        **columns: Any,
    ) -> None:
        rows = [generation(generation_id, **columns) for generation_id in generation_ids]
        self.ledger.write(entries.register_set, prompt_set=prompt_set, resource=resource, generations=rows, now=now)

    def priced(self, usd: Decimal = CENT, *, slug: str = "fast-flux-schnell", now: datetime = NOON) -> None:
        """A price of the model was reported: a reservation counts as what it is, without caution."""
        self.ledger.write(money.report_prices, [(slug, usd, now)])

    def claim(self, generation_id: str, owner: str = "me", **fields: Any) -> Claim:
        usual: dict[str, Any] = {
            "run_id": "run",
            "prompt_set": "set",
            "reserved_usd": CENT,
            "caps": Caps(day_usd=Decimal(100)),
            "rate_wait_ms": 0,
            "now": NOON,
        }
        return self.ledger.write(moves.claim, generation_id=generation_id, owner=owner, **{**usual, **fields})

    def submitted(self, held: Claim, request_id: str | None = None) -> Claim:
        request_id = request_id or f"r-{held.generation_id}-{held.attempt}"
        self.ledger.write(moves.mark_submitted, held, request_id=request_id, http_status=200, now=NOON)
        return held

    def unknown(self, held: Claim) -> Claim:
        self.ledger.write(
            writes.mark_unknown, held, failure_kind="unknown_outcome", error="no answer", http_status=None, now=NOON
        )
        return held

    def succeeded(self, held: Claim, **fields: Any) -> tuple[Decimal, bool]:
        """Store an output; what that charged anew, and whether that is estimated."""
        charge = self.ledger.write(moves.mark_succeeded, stored(held, **fields))
        return charge.anew_usd, charge.is_estimated

    def failed(self, held: Claim, *, target: str = "failed", **fields: Any) -> Claim:
        usual: dict[str, Any] = {
            "failure_kind": "server_error", "error": "500", "http_status": 500, "cost_usd": Decimal(0), "now": NOON,
        }  # fmt: skip
        self.ledger.write(writes.mark_failed, held, target=target, **{**usual, **fields})
        return held

    def reopened(self, generation_id: str, target: str) -> None:
        found = self.record(generation_id)
        seen = {generation_id: (found.failure_kind, found.attempts)}
        self.ledger.write(writes.reopen, seen, target=target, now=NOON)

    def taken_over(self, generation_id: str, old_owner: str | None, owner: str = "heir") -> Claim:
        return self.ledger.write(
            writes.take_over, generation_id=generation_id, old_owner=old_owner, owner=owner, now=NOON
        )

    def in_state(self, generation_id: str, state: str, owner: str = "me") -> Claim:
        """A fresh generation brought into a state, and the claim it was brought there with."""
        self.plan(generation_id)
        if state == "planned":
            return Claim(generation_id, 0, owner)
        held = self.claim(generation_id, owner)
        match state:
            case "submitted":
                self.submitted(held)
            case "unknown":
                self.unknown(held)
            case "succeeded":
                self.succeeded(self.submitted(held))
            case "failed":
                self.failed(held)
        return held

    def record(self, generation_id: str) -> Generation:
        return self.ledger.read(reads.snapshot, [generation_id], is_alive=lambda *_: True)[generation_id]

    def rows(self, table: Table) -> list[Mapping[str, Any]]:
        with self.ledger.reading() as connection:
            return [dict(row) for row in connection.execute(select(table)).mappings()]

    def attempt(self, held: Claim) -> Mapping[str, Any]:
        (row,) = [
            row
            for row in self.rows(ATTEMPTS)
            if (row["generation_id"], row["attempt"]) == (held.generation_id, held.attempt)
        ]
        return row

    def everything(self) -> list[list[Mapping[str, Any]]]:
        return [self.rows(table) for table in (GENERATIONS, ATTEMPTS, SPENDING, SET_GENERATIONS)]

    def committed_by(self, scope: str, name: str) -> Decimal:
        totals = {(row["scope"], row["name"]): row["committed_usd"] for row in self.rows(SPENDING)}
        return totals.get((scope, name), Decimal(0))

    def day_usd(self, day: str = DAY) -> Decimal:
        return self.committed_by("day", day)

    def attempts_usd(self) -> dict[str, Decimal]:
        """What the attempts of each day cost, or have reserved."""
        days: dict[str, Decimal] = {}
        for row in self.rows(ATTEMPTS):
            day = row["intent_at"].date().isoformat()
            usd = row["reserved_usd"] if row["cost_usd"] is None else row["cost_usd"]
            days[day] = days.get(day, Decimal(0)) + usd
        return {day: usd for day, usd in days.items() if usd}

    def count(self) -> int:
        with self.ledger.reading() as connection:
            return connection.execute(select(func.count()).select_from(ATTEMPTS)).scalar_one()
