"""A person decides what could not be found out: adopted or absent, and never anything that a run owns."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from lab.clocks import QuickClock
from lab.proxy import HISTORY, Proxy

from segmind_dagster.data_folder import opened
from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.ledger import leases, writes
from segmind_dagster.lifecycle.states import WRITTEN_OFF
from segmind_dagster.runner import resolving
from segmind_dagster.runner.resolving import adopt, buy_again, declare_absent
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import OpenLab
    from lab.runner_project import Lab

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.settings import Settings


@pytest.fixture
def lab(open_lab: OpenLab) -> Lab:
    """One generation whose submission was accepted, and charged, and whose answer got lost with the history down."""
    lab = open_lab(faults=Faults(script=["accepted_then_reset"]))
    with Proxy(lab.server.url, is_platform=True) as proxy:
        proxy.statuses[HISTORY] = 502
        key = lab.write("fruit", 1)
        report = lab.generate(key, settings=lab.settings(SEGMIND_PLATFORM_URL=proxy.url))
    assert report.models[0].endings == {"unknown": 1}
    return lab


def test_unresolved_submissions_are_listed(lab: Lab) -> None:
    (record,) = lab.unresolved()
    assert (record.state, record.prompt_set, record.model.slug) == ("unknown", "fruit", "fast-flux-schnell")
    assert "no answer came back" in str(record.error)


def test_an_adopted_request_is_fetched_and_not_bought_again(lab: Lab) -> None:
    (record,) = lab.unresolved()
    (request_id,) = lab.charged_requests()
    adopt(lab.settings(), record.generation_id[:10], request_id)
    assert lab.unresolved() == []
    assert {ended.ending for ended in lab.collect().values()} == {"succeeded"}
    lab.check_all_bought_once(1)
    assert lab.posts == 1


def test_a_generation_declared_absent_is_bought_by_the_next_run(lab: Lab) -> None:
    (record,) = lab.unresolved()
    declare_absent(lab.settings(), record.generation_id)
    assert (lab.states(), lab.committed_usd()) == (["planned"], 0)
    assert "A person said" in str(lab.attempts()[0]["error"])
    lab.generate("fruit", settings=lab.settings(SEGMIND_PLATFORM_URL="http://127.0.0.1:9"))
    assert (lab.states(), lab.posts) == (["succeeded"], 2)


def test_a_request_declared_absent_but_listed_is_fetched_and_not_bought_again(lab: Lab) -> None:
    (record,) = lab.unresolved()
    declare_absent(lab.settings(), record.generation_id)
    lab.generate("fruit")
    assert (lab.posts, lab.charges) == (1, 1)


def test_a_request_unknown_to_segmind_is_not_adopted(lab: Lab) -> None:
    (record,) = lab.unresolved()
    with pytest.raises(SegmindDagsterError, match="nothing was changed"):
        adopt(lab.settings(), record.generation_id, "00000000-0000-0000-0000-000000000000")
    assert lab.states() == ["unknown"]


def test_a_request_of_another_generation_is_not_adopted(lab: Lab) -> None:
    (record,) = lab.unresolved()
    lab.generate(lab.write("harvest", 1), settings=lab.settings(SEGMIND_PLATFORM_URL="http://127.0.0.1:9"))
    taken = next(row["request_id"] for row in lab.generations() if row["prompt_set"] == "harvest")
    with pytest.raises(SegmindDagsterError, match=r"nothing was changed|belongs to another"):
        adopt(lab.settings(), record.generation_id, taken)
    assert record.generation_id in {each.generation_id for each in lab.unresolved()}


def test_a_request_with_another_body_is_not_adopted(lab: Lab) -> None:
    (record,) = lab.unresolved()
    (request_id,) = lab.charged_requests()
    with Proxy(lab.server.url, is_platform=True) as proxy:

        def other_inputs(row: dict[str, Any]) -> dict[str, Any]:
            return {**row, "request_body": {"prompt": "quite another thing"}}

        proxy.answers[HISTORY] = other_inputs
        with pytest.raises(SegmindDagsterError, match="with other inputs"):
            adopt(lab.settings(SEGMIND_PLATFORM_URL=proxy.url), record.generation_id, request_id)
    assert lab.states() == ["unknown"]


def test_a_lost_paid_output_is_bought_again_only_by_a_person(open_lab: OpenLab) -> None:
    lab = open_lab(record_ttl_s=0.0, file_ttl_s=0.0)
    lab.generate(lab.write("fruit", 1))
    lab.generate("fruit")
    assert (lab.states(), lab.posts) == (["failed"], 1)
    (row,) = lab.generations()
    with pytest.raises(SegmindDagsterError, match="collect"):
        buy_again(lab.settings(), "abcdef123")
    buy_again(lab.settings(), row["generation_id"][:8])
    lab.generate("fruit")
    assert lab.posts == lab.charges == 2
    lab.check_money()


def test_buying_again_records_the_written_off_attempt(open_lab: OpenLab) -> None:
    lab = open_lab(record_ttl_s=0.0, file_ttl_s=0.0)
    lab.generate(lab.write("fruit", 1))
    buy_again(lab.settings(), lab.generations()[0]["generation_id"])
    (attempt,) = lab.attempts()
    assert (attempt["state"], attempt["failure_kind"]) == ("written_off", WRITTEN_OFF)
    assert attempt["error"].startswith("A person wrote its output off, to buy it again. Before that: expired, ")
    assert attempt["cost_usd"] == lab.charged_usd
    assert lab.states() == ["planned"]


def test_buying_again_is_refused_when_a_run_was_first(open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = open_lab(record_ttl_s=0.0, file_ttl_s=0.0)
    lab.generate(lab.write("fruit", 1))
    (row,) = lab.generations()

    @contextmanager
    def overtaken(settings: Settings) -> Iterator[Any]:
        """The ledger as a person's command has it, with a run that acts just before its first change."""
        with opened(settings) as (ledger, outputs):
            yield Overtaken(ledger), outputs

    class Overtaken:
        def __init__(self, ledger: Ledger) -> None:
            self._ledger = ledger

        def __getattr__(self, name: str) -> Any:
            return getattr(self._ledger, name)

        def write(self, operation: Any, *arguments: Any, **options: Any) -> Any:
            now = datetime.now(UTC)
            seen = {row["generation_id"]: (row["failure_kind"], row["attempts"])}
            assert self._ledger.write(writes.reopen, seen, target="submitted", now=now) == 1
            return self._ledger.write(operation, *arguments, **options)

    monkeypatch.setattr(resolving, "opened", overtaken)
    with pytest.raises(SegmindDagsterError, match="but a run was first") as refusal:
        buy_again(lab.settings(), row["generation_id"])
    assert "Nothing was changed" in str(refusal.value)
    assert lab.states() == ["submitted"]
    assert lab.attempts()[0]["failure_kind"] == "expired"


def test_a_generation_that_is_not_unresolved_is_refused(lab: Lab) -> None:
    with pytest.raises(SegmindDagsterError, match="No unresolved generations begin with 'nonsense'"):
        declare_absent(lab.settings(), "nonsense")
    lab.collect()
    with pytest.raises(SegmindDagsterError, match="No unresolved generations begin with ''"):
        declare_absent(lab.settings(), "")
    assert lab.states() == ["succeeded"]


def test_a_generation_of_a_live_run_cannot_be_resolved(lab: Lab) -> None:
    (record,) = lab.unresolved()
    now = datetime.now(UTC)
    with lab.ledger() as ledger:
        ledger.write(
            leases.record_lease, owner="another", run_id=None, process=leases.Process.this(),
            at_s=leases.since_boot_s(), now=now, lease_s=300,
        )  # fmt: skip
        ledger.write(
            writes.take_over, generation_id=record.generation_id, old_owner=record.owner, owner="another", now=now
        )
    assert lab.unresolved() == []
    with pytest.raises(SegmindDagsterError, match="a run is looking after"):
        declare_absent(lab.settings(), record.generation_id)
    later = QuickClock(ahead=timedelta(minutes=6))
    assert len(lab.unresolved(clock=later)) == 1
