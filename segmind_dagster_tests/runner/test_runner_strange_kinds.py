"""Failures of a kind that this version does not know: from a newer or an older one, or by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS
from segmind_dagster.runner.resolving import unclear
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from sqlalchemy import Connection

KINDS = ["from_the_future", "", None, "JOB_FAILED", "'; DROP TABLE generations"]


def fail_strangely(lab: Any, kind: str | None) -> None:
    def change(connection: Connection) -> None:
        connection.execute(update(GENERATIONS).values(state="failed", failure_kind=kind, owner=None))
        connection.execute(update(ATTEMPTS).values(state="failed", failure_kind=kind))

    with lab.ledger() as ledger:
        ledger.write(change)


@pytest.mark.parametrize("kind", KINDS)
def test_an_accepted_generation_of_unknown_kind_is_fetched_by_a_person_and_never_bought_again(
    open_lab: Any, kind: str | None
) -> None:
    lab = open_lab()
    lab.generate(lab.write("fruit", 2))
    fail_strangely(lab, kind)
    assert lab.generate("fruit", is_by_person=False).models[0].endings == {"left": 2}
    lab.generate("fruit")
    assert lab.states() == ["succeeded"] * 2
    assert (lab.posts, lab.charges) == (2, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unaccepted_generation_of_unknown_kind_is_bought_only_by_a_person(open_lab: Any, kind: str | None) -> None:
    lab = open_lab(faults=Faults(script=["invalid", "invalid"]))
    lab.generate(lab.write("fruit", 2))
    fail_strangely(lab, kind)
    assert lab.generate("fruit", is_by_person=False).models[0].endings == {"left": 2}
    assert lab.charges == 0
    lab.generate("fruit")
    lab.check_all_bought_once(2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_generation_of_unknown_kind_whose_job_failed_is_free_and_bought(open_lab: Any, kind: str | None) -> None:
    lab = open_lab(faults=Faults(script=["failed_validation"]))
    lab.generate(lab.write("fruit", 1))
    fail_strangely(lab, kind)
    lab.generate("fruit")
    assert (lab.states(), lab.charges) == (["failed"], 0)
    lab.generate("fruit")
    lab.check_all_bought_once(1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_accepted_generation_of_unknown_kind_is_listed_and_collected(open_lab: Any, kind: str | None) -> None:
    lab = open_lab()
    lab.generate(lab.write("fruit", 2))
    fail_strangely(lab, kind)
    assert len(unclear(lab.settings())) == 2
    assert [ended.ending for ended in lab.collect().values()] == ["succeeded"] * 2
    assert unclear(lab.settings()) == []
    assert (lab.posts, lab.charges) == (2, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unaccepted_generation_of_unknown_kind_is_not_collected(open_lab: Any, kind: str | None) -> None:
    lab = open_lab(faults=Faults(script=["invalid"]))
    lab.generate(lab.write("fruit", 1))
    fail_strangely(lab, kind)
    assert (unclear(lab.settings()), lab.collect()) == ([], {})
