"""Two data folders of one account, with equal prompts and lost answers: no charge is taken by both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from lab.runner_project import Lab

from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from conftest import OpenLab


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_folders_never_adopt_the_same_charge(open_lab: OpenLab, seed: int) -> None:
    rates = {"accepted_then_reset": 0.3, "reset_before_accept": 0.2}
    one = open_lab(faults=Faults(rates=rates, seed=seed))  # type: ignore[arg-type]
    other = Lab(one.server, one.folder.with_name("other"))
    labs = (one, other)
    for lab in labs:
        lab.write("fruit", 10)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda lab: lab.generate("fruit"), labs))
    one.server.set_faults(Faults())
    for lab in labs:
        lab.collect()
    taken = [{row["request_id"] for row in lab.attempts() if row["request_id"]} for lab in labs]
    assert not taken[0] & taken[1]
    # what is not told apart is shown to a person
    assert len(taken[0]) + len(taken[1]) + sum(lab.states().count("unknown") for lab in labs) >= one.charges
