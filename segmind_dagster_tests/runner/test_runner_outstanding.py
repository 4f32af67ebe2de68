"""A run that ends while paid work is not stored says how many, how much, and which command fetches it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.outputs import OutputStore
from segmind_dagster.runner.outstanding import Outstanding
from segmind_dagster.runner.poll_schedule import PollSchedule
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from conftest import OpenLab


def test_jobs_that_are_not_done_are_named_with_their_money_and_the_command(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PollSchedule, "deadline_s", lambda _: 0.5)
    lab = open_lab(faults=Faults(script=["stuck"] * 2))
    report = lab.generate(lab.write("fruit", 5))
    assert (report.outstanding.accepted, report.outstanding.in_doubt) == (2, 0)
    reserved = sum((row["reserved_usd"] for row in lab.attempts() if row["cost_usd"] is None), Decimal(0))
    assert report.outstanding.usd == reserved > 0
    (said,) = report.warnings
    assert "2 generations are paid for, or may be, and not stored: 2 accepted by Segmind" in said
    assert f"${reserved:.4f}" in said
    assert "`segmind-dagster collect`" in said


def test_a_paid_unusable_output_is_outstanding(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(rates={"undecodable": 1.0}))
    report = lab.generate(lab.write("fruit", 1))
    assert report.outstanding == Outstanding(1, 0, lab.charged_usd)


def test_a_run_without_outstanding_outputs_has_no_warning(open_lab: OpenLab) -> None:
    lab = open_lab()
    report = lab.generate(lab.write("fruit", 2))
    assert not report.outstanding
    assert report.warnings == ()


def test_an_error_of_a_run_includes_the_outstanding_outputs(open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = open_lab()

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OutputStore, "keep", refuse)
    with pytest.raises(SegmindDagsterError, match="cannot be stored") as raised:
        lab.generate(lab.write("fruit", 2))
    (note,) = raised.value.__notes__
    assert "and not stored" in note
    assert "segmind-dagster collect" in note


def test_submissions_without_an_answer_are_counted_separately() -> None:
    said = Outstanding(1, 2, Decimal("0.0165")).sentence()
    assert "3 generations" in said
    assert "1 accepted by Segmind and 2 whose outcome is not known, $0.0165" in said
    assert "`segmind-dagster resolve`" in said
