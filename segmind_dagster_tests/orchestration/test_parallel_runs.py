"""Many runs at once against one ledger and one DuckDB file: none fails, no row is missing, nothing is paid twice."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from lab.project import REALITY

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import OpenLab
    from lab.dagster_project import DagsterLab

PARTITIONS, AT_A_TIME, PROMPTS = 8, 4, 3


def materialize(lab: DagsterLab, home: Path, key: str) -> subprocess.CompletedProcess[str]:
    """What a person types, in a process of its own."""
    command = ["asset", "materialize", "-m", "segmind_dagster.definitions", "--select", f"segmind/{REALITY}"]
    environ = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "SEGMIND_PROJECT_DIR": str(lab.folder),
        "SEGMIND_API_URL": lab.server.url,
        "SEGMIND_MAX_IN_FLIGHT": "4",
    }
    return subprocess.run(
        [sys.executable, "-m", "dagster", *command, "--partition", key],
        cwd=home,
        env=environ,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.kill
def test_eight_partitions_four_at_a_time_all_succeed_with_all_their_rows(open_lab: OpenLab, tmp_path: Path) -> None:
    lab = open_lab(fixed_latency_s=0.2)
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    keys = [f"set_{n}" for n in range(PARTITIONS)]
    # one prompt is the same in every set: whoever comes first buys it
    for key in keys:
        lab.write(key, [f"{key} number {n}" for n in range(PROMPTS)] + ["the same everywhere"])
    # several processes must not be the first to open it
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions("prompt_sets", keys)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            runs = list(pool.map(lambda key: materialize(lab, home, key), keys))
        assert [run.returncode for run in runs] == [0] * PARTITIONS, "\n".join(run.stderr[-2000:] for run in runs)
        asset = dg.AssetKey(["segmind", REALITY])
        assert instance.get_materialized_partitions(asset) == set(keys)
    rows = lab.records(f"SELECT prompt_set, count(*) AS n FROM {REALITY} WHERE status = 'succeeded' GROUP BY 1")
    assert {row["prompt_set"]: row["n"] for row in rows} == dict.fromkeys(keys, PROMPTS + 1)
    assert lab.server.account()["charges"] == PARTITIONS * PROMPTS + 1
    assert lab.records("SELECT sum(cost_usd) AS usd, count(*) AS n FROM attempts WHERE cost_usd > 0") == [
        {"usd": lab.charged_usd, "n": PARTITIONS * PROMPTS + 1}
    ]
    (reused,) = lab.records(f"SELECT count(*) AS n FROM {REALITY} WHERE is_reused")
    assert reused["n"] == PARTITIONS - 1
