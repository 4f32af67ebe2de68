"""What a lying history shows: which requests, in which order, on which page, and what it says of their number.

Remembers how far its script and its empty readings have come. What it makes of a single row is in `altered_rows`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Literal

from segmind_dagster.sandbox.altered_rows import altered
from segmind_dagster.sandbox.faults import unit_draw
from segmind_dagster.sandbox.jobs import canonical
from segmind_dagster.sandbox.lying_money import stated_amount
from segmind_dagster.sandbox.times import iso_utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segmind_dagster.sandbox.altered_rows import Row
    from segmind_dagster.sandbox.jobs import Job
    from segmind_dagster.sandbox.lies import Lies

_STRANGERS = 3


class NoSuchPageError(Exception):
    """The page is after the last, and that is answered with an error."""

    def __init__(self, status: int) -> None:
        super().__init__(f"a page after the last is answered with {status}")
        self.status = status


class LyingHistory:
    """One history with its lies."""

    def __init__(self, lies: Lies) -> None:
        self.lies = lies
        self._script = list(lies.page_script)
        self._empty_left = lies.empty_readings
        self._is_reading_empty = False
        self._shuffles = 0

    def shows(self, job: Job, now: float) -> bool:
        """Whether a request is listed at all."""
        lies = self.lies
        if lies.workspace != "own":
            return False
        if lies.finished_only and job.status(now) not in {"COMPLETED", "FAILED"}:
            return False
        lag_s = lies.lag_s + lies.lag_by_model.get(job.slug, 0.0) + lies.lag_spread_s * self._drawn("lag", job)
        return now >= job.created_at + lag_s and self._drawn("omitted", job) >= lies.omitted_share

    def reported(self, row: Row, job: Job) -> Row:
        """A row as it is shown."""
        lies = self.lies
        cost = stated_amount(row["credits_deduction"], lies.cost_in_history, key="credits_deduction")
        row = {**{name: value for name, value in row.items() if name != "credits_deduction"}, **cost}
        return altered(row, job, lies) if self._drawn("altered", job) < lies.altered_share else row

    def turn(self, page: int, *, has_rows: bool) -> Literal["ok", "empty", "unreadable"]:
        """What becomes of the page that is asked for next, before it is looked at.

        Args:
            page: from 1.
            has_rows: whether an honest history has rows to show.
        """
        if not has_rows:
            return "ok"
        if self._script:
            return self._script.pop(0)
        if page == 1:
            self._is_reading_empty = self._empty_left is None or self._empty_left > 0
            if self._empty_left:
                self._empty_left -= 1
        return "empty" if self._is_reading_empty else "ok"

    def page(self, rows: Sequence[Row], *, page: int, per_page: int, now: float) -> dict[str, Any]:
        """One page as it is shown, with what is said of its place among all.

        Args:
            rows: everything that is listed.
            page: from 1.
            per_page: rows a page, as asked for.
            now: UTC epoch seconds.

        Raises:
            NoSuchPageError: there is an error for this page.
        """
        lies = self.lies
        if lies.workspace == "strangers":
            rows = [stranger(number, now) for number in range(_STRANGERS)]
        rows = [*(stranger(number, now) for number in range(lies.inserted_per_page * (page - 1))), *rows]
        if lies.is_unsorted:
            self._shuffles += 1
            # seeded by the number of the request: it is to change from one to the next, and to be repeated
            rows = random.Random(f"{lies.seed} {self._shuffles}").sample(rows, len(rows))  # noqa: S311  not secret
        size = per_page if lies.page_cap is None else min(per_page, lies.page_cap)
        last = max(-(-len(rows) // size), 1)
        start = (self._shown(page, last) - 1) * size
        return {"data": rows[start : start + size], "pagination": self._pagination(page, per_page, size, len(rows))}

    def _shown(self, page: int, last: int) -> int:
        lies = self.lies
        if lies.repeated_page == "first":
            return 1
        if lies.repeated_page == "previous":
            page = max(page - 1, 1)
        if page <= last:
            return page
        match lies.past_end:
            case "400" | "404":
                raise NoSuchPageError(int(lies.past_end))
            case "first":
                return 1
            case "last":
                return last
            case _:
                return page

    def _pagination(self, page: int, asked: int, size: int, total: int) -> dict[str, int]:
        lies = self.lies
        reported: dict[str, int] = {"page": page, "per_page": size}
        if lies.total != "absent":
            reported["total"] = total if lies.total == "right" else total // 2
        match lies.total_pages:
            case "absent":
                return reported
            case "one":
                return {**reported, "total_pages": 1}
            case "rounded_down":
                return {**reported, "total_pages": total // size}
            case "of_asked_size":
                return {**reported, "total_pages": -(-total // asked)}
            case _:
                return {**reported, "total_pages": -(-total // size)}

    def _drawn(self, what: str, job: Job) -> float:
        return unit_draw(self.lies.seed, what, job.slug, canonical(job.body), job.nth)


def stranger(number: int, now: float) -> Row:
    """A request that nobody here has sent."""
    return {
        "request_id": f"00000000-0000-4000-8000-{number:012d}",
        "model_name": "fast-flux-schnell",
        "model_status": "COMPLETED",
        "credits_deduction": 0.02,
        "request_body": {"prompt": f"a plate of figs for a magazine, number {number}", "steps": 4},
        "generation_url": f"https://images.segmind.com/generations/{number}.jpeg",
        "latency_ms": 4000,
        "model_created": iso_utc(now),
        "error": None,
    }
