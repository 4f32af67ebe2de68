"""Everything one running sandbox holds, put together once and shared by its routes.

No routes and no rules: the parts know those. Belongs to the server's event loop while it runs.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from segmind_dagster.sandbox.assets import AssetStore
from segmind_dagster.sandbox.faults import FaultDraw, Faults
from segmind_dagster.sandbox.jobs import JobBook
from segmind_dagster.sandbox.journal import Journal
from segmind_dagster.sandbox.lying_history import LyingHistory
from segmind_dagster.sandbox.rate import FixedWindow
from segmind_dagster.sandbox.renderings import Renderings
from segmind_dagster.sandbox.times import iso_utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segmind_dagster.sandbox.faults import RequestFault
    from segmind_dagster.sandbox.lies import Lies
    from segmind_dagster.sandbox.settings import SandboxSettings


class SandboxState:
    """The parts of a sandbox; remembers what its state folder remembers.

    Raises:
        SettingsError: the state folder cannot be read.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        folder = settings.state_dir
        self.settings = settings
        self.now = settings.clock
        self.journal = Journal(folder / "journal.jsonl", durable=settings.durable) if folder else None
        self.assets = AssetStore(folder / "assets" if folder else None)
        self.renderings = Renderings(settings, self.assets)
        self.book = JobBook(settings, self.journal)
        self.rate = FixedWindow(window_s=settings.rate_window_s, limit=settings.requests_per_minute)
        self.faults = FaultDraw(settings.faults)
        self.lying = LyingHistory(settings.lies)
        self.requests = dict.fromkeys(
            ("submit", "status", "result", "output", "history", "credits", "models", "upload"), 0
        )
        self.spoilt: dict[str, Counter[str]] = {}
        if self.journal is not None:
            self._restore(self.journal)

    def set_faults(self, faults: Faults) -> None:
        """From now on, submissions meet these faults; the script starts anew."""
        self.faults = FaultDraw(faults)

    @property
    def lies(self) -> Lies:
        """How the provider lies now."""
        return self.lying.lies

    def set_lies(self, lies: Lies) -> None:
        """From now on, the provider lies like this; what it counts starts anew."""
        self.lying = LyingHistory(lies)

    def fault_of(self, route: str, kinds: Sequence[RequestFault]) -> RequestFault | None:
        """The fault of these kinds that the next request of a route meets, if it meets one; it is on record then."""
        fault = self.faults.draw_request(kinds, route, self.requests[route])
        if fault is not None:
            self.spoilt.setdefault(route, Counter())[fault] += 1
        return fault

    def account(self, *, jobs: bool = True) -> dict[str, Any]:
        """What was asked of the sandbox and what it charged; independent of any client's own books."""
        book = self.book
        book.finish_ended()
        account: dict[str, Any] = {
            "charged_usd": str(book.charged_usd),
            "balance_usd": str(book.balance_usd),
            "submissions": len(book.jobs),
            "charges": book.charges,
            "requests": dict(self.requests),
            "spoilt": {route: dict(kinds) for route, kinds in self.spoilt.items()},
            "rate_limited": self.rate.refused,
            "peak_requests_per_window": self.rate.peak,
        }
        if jobs:
            now = self.now()
            account["jobs"] = [
                {
                    "request_id": job.request_id,
                    "stated_id": job.stated_id,
                    "slug": job.slug,
                    "body": job.body,
                    "status": job.status(now),
                    "cost_usd": str(job.cost_usd) if job.is_charged else "0",
                    "created_at": iso_utc(job.created_at),
                    "charged": job.is_charged,
                }
                for job in book.jobs.values()
            ]
        return account

    def close(self) -> None:
        """Write what is still queued and let go of threads."""
        self.book.finish_ended()
        if self.journal is not None:
            self.journal.flush()
        self.renderings.close()

    def _restore(self, journal: Journal) -> None:
        records = journal.replay()
        if records:
            # the balance goes on from where the first start began, whatever the settings say today
            self.book.balance_usd = Decimal(records[0]["initial_credits_usd"])
            for record in records[1:]:
                self.book.restore(record)
        else:
            journal.append({"type": "opened", "initial_credits_usd": str(self.settings.initial_credits)})
