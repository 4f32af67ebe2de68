"""What goes first in a run: what was paid for earlier before what is bought now, submissions before outputs."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from lab.clocks import HandClock
from lab.proxy import JOBS, Proxy

from segmind_dagster.runner.concurrency import ConcurrencyLimit

if TYPE_CHECKING:
    from lab.runner_project import Lab


def test_earlier_paid_work_is_polled_before_new_submissions(lab: Lab) -> None:
    earlier, new = "a pear", ["a plum", "a fig"]
    lab.environ["SEGMIND_MAX_IN_FLIGHT"] = "1"
    with Proxy(lab.server.url) as proxy:
        lab.environ["SEGMIND_API_URL"] = proxy.url
        proxy.statuses[JOBS] = 503
        assert lab.generate(lab.write("fruit", [earlier])).models[0].endings == {"running": 1}
        proxy.tell_the_truth()
        proxy.asked.clear()
        (earlier_id,) = lab.charged_requests()
        # last in its file, and still the first that this run works on
        lab.generate(lab.write("fruit", [*new, earlier]))
        lab.check_all_bought_once(3)
    sent = [number for number, asked in enumerate(proxy.asked) if asked.startswith("POST /v2/")]
    assert len(sent) == 2
    assert proxy.asked.index(f"GET {JOBS}{earlier_id}") < sent[0]


@pytest.mark.parametrize(("submitting", "waits_s"), [(0, 0.0), (32, 0.0), (33, 3.0)])
def test_outputs_wait_briefly_during_a_submission_burst(submitting: int, waits_s: float) -> None:
    clock = HandClock()
    places = ConcurrencyLimit(1000, clock)
    with ExitStack() as burst:
        for _ in range(submitting):
            burst.enter_context(places.submitting())
        asyncio.run(places.after_submission_burst())
    assert sum(clock.slept) == pytest.approx(waits_s)
