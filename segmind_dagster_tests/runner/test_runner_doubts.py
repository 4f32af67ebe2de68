"""What is not proved absent is not bought again: odd clocks, odd histories, and races between plan and purchase."""

from __future__ import annotations

import asyncio
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from lab.clocks import QuickClock
from lab.proxy import HISTORY, Proxy

from segmind_dagster.ledger.rate import reserve_requests
from segmind_dagster.outputs import OutputStore
from segmind_dagster.runner.resolving import declare_absent
from segmind_dagster.sandbox import LATE_ERRORS, Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import OpenLab
    from lab.runner_project import Lab

LOCAL = timedelta(hours=8)


@pytest.fixture
def behind_proxy(open_lab: OpenLab) -> Iterator[Callable[[], tuple[Lab, Proxy]]]:
    """A lab whose first answer gets lost, with its platform behind a proxy."""
    proxies: list[Proxy] = []

    def opened() -> tuple[Lab, Proxy]:
        lab = open_lab(faults=Faults(script=["accepted_then_reset"]))
        proxies.append(Proxy(lab.server.url, is_platform=True).__enter__())
        lab.environ["SEGMIND_PLATFORM_URL"] = proxies[-1].url
        return lab, proxies[-1]

    yield opened
    for proxy in proxies:
        proxy.__exit__()


def rewritten(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], Any]:
    """A history whose rows are changed in this way."""
    return lambda document: {**document, "data": [change(row) for row in document["data"]]}


def in_local_time(row: dict[str, Any]) -> dict[str, Any]:
    moment = datetime.fromisoformat(row["model_created"]) - LOCAL
    return {**row, "model_created": moment.replace(tzinfo=None).isoformat()}


HISTORIES = {
    "times without a zone": in_local_time,
    "a name for people": lambda row: {**row, "model_name": "Fast Flux.1 Schnell (text to image)"},
    "bodies in an envelope": lambda row: {**row, "request_body": {"inputs": row["request_body"]}},
    "no bodies": lambda row: {**row, "request_body": {}},
}


@pytest.mark.parametrize("form", HISTORIES)
def test_a_history_of_unexpected_shape_proves_no_absence(
    behind_proxy: Callable[[], tuple[Lab, Proxy]], form: str
) -> None:
    lab, proxy = behind_proxy()
    proxy.answers[HISTORY] = rewritten(HISTORIES[form])
    report = lab.generate(lab.write("fruit", 1))
    assert report.models[0].endings == {"unknown": 1}
    assert (lab.posts, lab.charges) == (1, 1)


@pytest.mark.parametrize("fault", LATE_ERRORS)
def test_an_error_after_acceptance_is_not_sent_again_while_the_history_cannot_be_read(
    open_lab: OpenLab, fault: str
) -> None:
    lab = open_lab(faults=Faults(script=[fault]))
    key = lab.write("fruit", 1)
    with Proxy(lab.server.url, is_platform=True) as proxy:
        lab.environ["SEGMIND_PLATFORM_URL"] = proxy.url
        proxy.answers[HISTORY] = lambda _: "a page for people"
        lab.generate(key)
        assert (lab.posts, lab.charges) == (1, 1)
        proxy.answers.clear()
        lab.generate(key)
    lab.check_all_bought_once(1)


@pytest.mark.parametrize("form", ["no bodies", "bodies in an envelope"])
def test_a_declared_absence_outweighs_the_row_that_left_doubt(
    behind_proxy: Callable[[], tuple[Lab, Proxy]], form: str
) -> None:
    lab, proxy = behind_proxy()
    proxy.answers[HISTORY] = rewritten(HISTORIES[form])
    key = lab.write("fruit", 1)
    lab.generate(key)
    (record,) = lab.unresolved()
    declare_absent(lab.settings(), record.generation_id)
    report = lab.generate(key)
    assert (report.models[0].endings, report.stop_message) == ({"succeeded": 1}, None)
    assert lab.posts == 2


def test_a_history_that_answers_404_with_an_empty_list_proves_no_absence(
    behind_proxy: Callable[[], tuple[Lab, Proxy]],
) -> None:
    lab, proxy = behind_proxy()
    proxy.replace(HISTORY, {"error": "No requests found for the user", "data": []})
    proxy.statuses[HISTORY] = 404
    report = lab.generate(lab.write("fruit", 1))
    assert report.models[0].endings == {"unknown": 1}
    assert lab.charges == 1


@pytest.mark.parametrize("error", [{}, {"error": "shard away"}], ids=["late", "with an error"])
def test_a_history_without_our_accepted_requests_proves_no_absence(
    behind_proxy: Callable[[], tuple[Lab, Proxy]], error: dict[str, Any]
) -> None:
    lab, proxy = behind_proxy()
    proxy.answers[HISTORY] = lambda document: {**document, **error, "data": []}
    key = lab.write("fruit", 20)
    settings = lab.settings(SEGMIND_UNKNOWN_SETTLE_SECONDS="1")
    assert lab.generate(key, settings=settings).models[0].endings == {"succeeded": 19, "unknown": 1}
    proxy.answers.clear()
    lab.generate(key)
    lab.check_all_bought_once(20)


def test_a_clock_minutes_ahead_does_not_hide_our_own_request(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["accepted_then_reset"]))
    lab.generate(lab.write("fruit", 1), clock=QuickClock(ahead=timedelta(minutes=5)))
    assert (lab.posts, lab.charges) == (1, 1)


def test_a_send_time_reserved_a_day_ahead_by_a_wrong_clock_is_ignored(lab: Lab) -> None:
    with lab.ledger() as ledger:
        ledger.write(reserve_requests, count=1, per_minute=60, now=datetime.now(UTC) + timedelta(days=1))
    slept: list[float] = []

    class Counting(QuickClock):
        async def sleep(self, seconds: float) -> None:
            slept.append(seconds)
            await asyncio.sleep(0)

    lab.generate(lab.write("fruit", 1), clock=Counting())
    assert max(slept) <= 600
    assert lab.states() == ["succeeded"]


def test_a_generation_bought_by_another_run_since_the_plan_is_not_bought_again(open_lab: OpenLab) -> None:
    """One run plans while a generation has failed free of charge; before it acts, another one buys bad bytes."""
    lab = open_lab(faults=Faults(script=["failed"] * 3))
    key = lab.write("fruit", 1)
    lab.generate(key)
    assert lab.states() == ["failed"]
    lab.server.set_faults(Faults(rates={"undecodable": 1.0}))

    class Overtaken(QuickClock):
        has_let_pass = False

        def now(self) -> datetime:
            if not self.has_let_pass and sys._getframe(1).f_code.co_name == "_reopen":
                self.has_let_pass = True
                lab.generate(key)
            return super().now()

    clock = Overtaken()
    lab.generate(key, clock=clock)
    assert clock.has_let_pass
    assert lab.charges == 1


def test_a_sweep_beside_an_active_run_does_not_fail_it(tmp_path: Path) -> None:
    store = OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)
    store.scratch_file("a")
    is_over = threading.Event()

    def busy() -> None:
        while not is_over.is_set():
            paths = [store.scratch_file(f"g{number}") for number in range(100)]
            for path in paths:
                path.write_bytes(b"x")
            for path in paths:
                path.unlink()

    other = threading.Thread(target=busy)
    other.start()
    try:
        for _ in range(100):
            OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path).sweep()
    finally:
        is_over.set()
        other.join()
