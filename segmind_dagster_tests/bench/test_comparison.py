"""The comparison is honest: every contender does all of the work, and each figure comes from where it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.__main__ import CONTENDERS, Size, measure, table

if TYPE_CHECKING:
    from typing import Any

ROOT = Path(__file__).parents[2]
SIZE = Size(jobs=6, in_flight=3, latency_s=0.2)


@pytest.fixture
def _in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("_in_project")
@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_files_every_generation_and_pays_once_for_each(name: str, tmp_path: Path) -> None:
    figures = measure(name, SIZE, tmp_path / "work")
    pictures = [path for path in (tmp_path / "work").rglob("*.jpg") if path.read_bytes().startswith(b"\xff\xd8")]
    assert len(pictures) == SIZE.jobs + figures["earlier"]
    assert figures["lost"] == 0
    assert figures["polls"] >= 1
    assert figures["wall_s"] >= 2 * SIZE.latency_s
    assert 0 < figures["cpu_s"] < 60


def test_ratios_are_to_the_bare_loop_whatever_the_order() -> None:
    base: dict[str, Any] = {
        "wall_s": 10.0, "cpu_s": 1.0, "start_cpu_s": 0.1, "polls": 1.0, "resident_mb": 40.0, "lost": 0,
        "server_s": 1.0, "load_s": None,
    }  # fmt: skip
    lines = table({"product": {**base, "wall_s": 10.5, "cpu_s": 2.5, "load_s": 0.7}, "bare": base})
    assert re.findall(r"[\d.]+", lines[1])[:4] == ["10.50", "1.050", "2.50", "2.50"]
    assert re.findall(r"[\d.]+", lines[2])[:4] == ["10.00", "1.000", "1.00", "1.00"]


def test_an_unknown_contender_is_refused_by_name() -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "bench", "--contenders", "bare,rocket"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "rocket is none of bare, product, threads, sdk" in refused.stderr
