"""A project whose runs are checked for what they bought and what the ledger says of it."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from lab.project import Project
from segmind_dagster.ledger.schema import SPENDING
from segmind_dagster.runner.resolving import doubts

if TYPE_CHECKING:
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.runner.ports import ClockPort


class Lab(Project):
    """One project against one sandbox."""

    def committed_usd(self, scope: str = "day") -> Decimal:
        """What the ledger says was charged or is reserved, over all days (or sets, or runs)."""
        with self.ledger() as ledger, ledger.reading() as connection:
            return sum(
                connection.execute(select(SPENDING.c.committed_usd).where(SPENDING.c.scope == scope)).scalars(),
                Decimal(0),
            )

    def unresolved(self, clock: ClockPort | None = None) -> list[Generation]:
        """What waits for a person's word and no run is looking after, oldest first."""
        return [doubt.record for doubt in doubts(self.settings(), clock=clock)[0]]

    def committed_per_attempt(self) -> list[Decimal]:
        return [row["cost_usd"] if row["cost_usd"] is not None else row["reserved_usd"] for row in self.attempts()]

    def check_all_bought_once(self, generations: int) -> None:
        """Every generation is charged once, stored, and in the books with what the sandbox charged."""
        rows = self.generations()
        assert [row["state"] for row in rows] == ["succeeded"] * generations, [
            (row["state"], row["failure_kind"], row["error"]) for row in rows
        ]
        assert self.charges == generations
        assert {row["request_id"] for row in rows} == self.charged_requests()
        self.check_money()
        for row in rows:
            content = Path(row["output_uri"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row["output_sha256"]

    def check_money(self) -> None:
        """The day's money and the attempts' sum are what the sandbox charged, to the last digit."""
        assert {self.committed_usd(scope) for scope in ("day", "run", "set")} == {self.charged_usd}
        assert sum((row["cost_usd"] or 0 for row in self.attempts()), Decimal(0)) == self.charged_usd
