"""A Dagster run that is terminated in the middle: it drains, says so, and the next run completes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from lab.project import FLUX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import OpenLab
    from lab.dagster_project import DagsterLab

pytestmark = pytest.mark.kill

GENERATIONS, IN_FLIGHT = 250, 60
AT_ONCE_S = 1.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "dagster_home"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return folder


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


def materialize(lab: DagsterLab, home: Path, key: str) -> subprocess.Popen[str]:
    """What a person types, in a process of its own."""
    command = ["asset", "materialize", "-m", "segmind_dagster.definitions", "--select", f"segmind/{FLUX}"]
    environ = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "SEGMIND_PROJECT_DIR": str(lab.folder),
        "SEGMIND_API_URL": lab.server.url,
        "SEGMIND_REQUESTS_PER_MINUTE": "2400",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "dagster", *command, "--partition", key],
        cwd=home,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def in_flight(lab: DagsterLab, count: int) -> None:
    """Wait until so many have been submitted."""
    deadline = time.monotonic() + 60
    while lab.posts < count:
        assert time.monotonic() < deadline, "nothing is submitted"
        threading.Event().wait(0.01)


def states(lab: DagsterLab) -> Counter[str]:
    return Counter(row["state"] for row in lab.generations())


def test_a_terminated_run_drains_and_is_canceled_and_the_next_one_completes(
    open_lab: OpenLab, home: Path, instance: dg.DagsterInstance
) -> None:
    lab = open_lab(fixed_latency_s=1.5)
    lab.write("fruit", GENERATIONS, models=[FLUX])
    instance.add_dynamic_partitions("prompt_sets", ["fruit"])
    with materialize(lab, home, "fruit") as process:
        in_flight(lab, IN_FLIGHT)
        (run,) = instance.get_runs()
        # what Terminate does: note that it was asked for, then interrupt the run's process
        instance.report_run_canceling(run)
        told_at = time.time()
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=40)[1]
    assert time.time() - told_at < 30
    accepted = [datetime.fromisoformat(job["created_at"]).timestamp() for job in lab.jobs()]
    assert [at - told_at for at in accepted if at > told_at + AT_ONCE_S] == []
    # what was in flight has landed, and is in the books
    assert set(states(lab)) == {"succeeded", "planned"}, err
    assert states(lab)["succeeded"] == lab.server.account()["charges"] == lab.posts >= IN_FLIGHT
    # Dagster says what happened, and takes nothing for complete
    (record,) = instance.get_run_records()
    assert record.dagster_run.status is dg.DagsterRunStatus.CANCELED
    asset = dg.AssetKey(["segmind", FLUX])
    assert instance.get_materialized_partitions(asset) == set()
    failures = [
        event for event in instance.all_logs(run.run_id) if event.dagster_event and event.dagster_event.is_step_failure
    ]
    assert len(failures) == 1
    # and what that means for the money
    assert "What was submitted may have been charged and is recorded" in err

    with materialize(lab, home, "fruit") as again:
        err = again.communicate(timeout=60)[1]
    assert again.returncode == 0, err
    assert instance.get_materialized_partitions(asset) == {"fruit"}
    assert lab.server.account()["charges"] == lab.posts == GENERATIONS
    assert lab.records(f"SELECT status, count(*) AS n FROM {FLUX} GROUP BY 1") == [
        {"status": "succeeded", "n": GENERATIONS}
    ]
    assert lab.records("SELECT sum(cost_usd) AS usd FROM attempts") == [{"usd": lab.charged_usd}]
