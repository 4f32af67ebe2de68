"""A run is killed at every gap between two steps; the next one finishes the work and pays for nothing twice."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from lab import script, script_environ
from lab.project import V1, V2

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.runner_project import Lab

pytestmark = pytest.mark.kill

GENERATIONS = 6
RERUNS = 1
# gaps that a v1 answer passes; it needs no poll and no fetch
ON_BOTH = (
    "before the claim",
    "after the claim, before it is durable",
    "after the claim, before the POST",
    "amid the POST",
    "after the POST, before its answer is recorded",
    "while its answer is recorded",
    "after the fetch, before the file is kept",
    "between the sidecar and the file",
    "after the file is kept, before that is recorded",
    "while the success is recorded",
)
ON_V2 = (
    "after its answer is recorded, before the first poll",
    "after the result, before the fetch",
)


def run(lab: Lab, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        script("kill_points"),
        env=script_environ(**{**lab.environ, **environ}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("gap", "resource"), [(g, r) for g in ON_BOTH for r in (V1, V2)] + [(g, V2) for g in ON_V2])
def test_a_run_killed_between_two_steps_is_finished_by_the_next_one(open_lab: OpenLab, gap: str, resource: str) -> None:
    lab = open_lab(fixed_latency_s=0.3)
    lab.write("fruit", GENERATIONS, models=[resource])
    killed = run(lab, KILL_AT=gap)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "succeeded" not in killed.stdout
    for _ in range(RERUNS):
        again = run(lab)
        assert again.returncode == 0, again.stderr
    endings = json.loads(again.stdout)
    assert sum(endings.values()) == GENERATIONS
    assert set(endings) <= {"succeeded", "reused"}
    lab.check_all_bought_once(GENERATIONS)
    names = {f"{row['generation_id']}{end}" for row in lab.generations() for end in (".jpg", ".facts.json")}
    assert {path.name for path in (lab.folder / "data" / "outputs" / resource).iterdir()} == names


def test_a_repeatedly_killed_run_finishes(open_lab: OpenLab) -> None:
    lab = open_lab(fixed_latency_s=0.05)
    lab.write("fruit", 20)
    gaps = (
        "after the POST, before its answer is recorded",
        "after the fetch, before the file is kept",
        "after the claim, before the POST",
        "while the success is recorded",
    )
    for gap in gaps:
        assert run(lab, KILL_AT=gap).returncode in {0, -signal.SIGKILL}
    for _ in range(RERUNS):
        assert run(lab).returncode == 0
    # what was killed before its POST has nothing after it that would prove its absence in a run
    lab.collect()
    assert run(lab).returncode == 0
    lab.check_all_bought_once(20)
