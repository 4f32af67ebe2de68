"""Calls of the ledger that mypy is to accept or to refuse; `test_ledger_typing` has it read them, nobody runs them.

Each `type: ignore` names the error that must be there. When an operation's types are lost on the way through the
ledger, mypy finds the ignore unused (`warn_unused_ignores`) and says so. What the operations do is tested elsewhere.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, assert_type

from segmind_dagster.ledger import Caps, Claim, Ledger, moves, reads, writes
from segmind_dagster.ledger.records import Charge

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from segmind_dagster.lifecycle.generation import Attempt


async def plain_operations(ledger: Ledger, held: Claim, now: datetime) -> None:
    """Operations that are functions."""
    await ledger.awrite(writes.mark_absent, held, reason="none", now=now)
    await ledger.awrite(writes.mark_absent, 42, reason="none", now=now)  # type: ignore[arg-type]
    await ledger.awrite(writes.mark_absent, held, reason="none", noww=now)  # type: ignore[call-arg]
    await ledger.awrite(writes.mark_absent, held, reason="none")  # type: ignore[call-arg]
    ledger.write(writes.mark_absent, held, reason="none", now=None)  # type: ignore[arg-type]
    ledger.writer.submit(writes.mark_absent, held, reason="none", noww=now)  # type: ignore[call-arg]
    await ledger.writer.run_async(writes.mark_absent, held, reason="none", noww=now)  # type: ignore[call-arg]
    ledger.read(reads.was_adopted, request="r")  # type: ignore[call-arg]
    assert_type(ledger.read(reads.meta, "api_origin"), str | None)


async def batched_operations(
    ledger: Ledger, held: Claim, stored: Attempt, caps: Caps, usd: Decimal, now: datetime
) -> None:
    """Operations of many callers; their arguments are the fields of what is asked."""
    claimed = await ledger.awrite(
        moves.claim, generation_id="g", owner="run", run_id=None, prompt_set="set", reserved_usd=usd, caps=caps,
        rate_wait_ms=0, now=now,
    )  # fmt: skip
    assert_type(claimed, Claim)
    assert_type(ledger.write(moves.mark_succeeded, stored), Charge)
    assert_type(ledger.writer.submit(moves.mark_succeeded, stored), Future[Charge])
    ledger.write(moves.mark_succeeded, held)  # type: ignore[arg-type]
    ledger.write(moves.mark_succeeded)  # type: ignore[call-arg]
    await ledger.awrite(moves.mark_submitted, held, request="r", http_status=200, now=now)  # type: ignore[call-arg]
    await ledger.awrite(moves.mark_submitted, held, request_id=7, http_status=200, now=now)  # type: ignore[arg-type]
