"""The ledger's API is typed end to end: mypy checks every argument of an operation where the ledger is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import segmind_dagster

PROJECT = Path(segmind_dagster.__file__).parent.parent
CALLS = Path(__file__).with_name("ledger_calls.py")


def test_mypy_refuses_a_ledger_call_with_a_wrong_argument_and_accepts_the_right_ones() -> None:
    # with the cache that `make lint` keeps in the project's folder: from nothing it takes ten seconds of CPU
    mypy = [sys.executable, "-m", "mypy", "--config-file", PROJECT / "pyproject.toml", CALLS]
    done = subprocess.run(mypy, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
