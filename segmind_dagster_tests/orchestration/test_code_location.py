"""The code location loads anywhere, at once, with nothing: no key, no network, no file written, no Dagster home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ALONE = """
import json, os, socket, sys
def refuse(*_, **__): raise AssertionError("loading the code location opened a connection")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from segmind_dagster.definitions import defs
keys = sorted(spec.key.to_user_string() for spec in defs.resolve_all_asset_specs())
HEAVY = (
    "aiohttp", "alembic", "duckdb", "numpy", "pandas", "PIL", "pyarrow", "rich",
    "segmind_dagster.runner", "segmind_dagster.outputs", "segmind_dagster.gateway.client", "segmind_dagster.sandbox",
)
heavy = sorted(name for name in HEAVY if name in sys.modules)
print(json.dumps({"keys": keys, "heavy": heavy, "environ": sorted(name for name in os.environ if "SEGMIND" in name)}))
"""


def load_alone(folder: Path, **environ: str) -> dict[str, list[str]]:
    """Load the code location in a fresh interpreter that has nothing but a PATH."""
    for name in ("home", "work"):
        (folder / name).mkdir()
    alone = {
        "HOME": str(folder / "home"),
        "DLT_DATA_DIR": str(folder / "dlt"),
        "PATH": os.environ["PATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
        **environ,
    }
    command = [sys.executable, "-c", ALONE]
    loaded = subprocess.run(
        command, cwd=folder / "work", env=alone, capture_output=True, text=True, check=False, timeout=60
    )
    assert loaded.returncode == 0, loaded.stderr
    found: dict[str, list[str]] = json.loads(loaded.stdout.splitlines()[-1])
    return found


def test_it_loads_without_key_network_or_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    found = load_alone(tmp_path)
    assert "prompt_set" in found["keys"]
    assert "segmind/fast_flux_schnell" in found["keys"]
    assert found["environ"] == []
    assert [path for path in tmp_path.rglob("*") if path.name not in {"home", "work"}] == []
    # what only a run needs is not imported: every process that loads the definitions would pay for it
    assert found["heavy"] == []


def test_invalid_settings_fail_the_run_and_not_the_loading(tmp_path: Path) -> None:
    found = load_alone(
        tmp_path,
        SEGMIND_API_KEY="no key at all",
        SEGMIND_API_URL="not a URL",
        SEGMIND_DATA_DIR="/nowhere/at/all",
        SEGMIND_LEDGER_URL="postgresql://nobody@127.0.0.1:1/nothing",
        SEGMIND_PROJECT_DIR="/nowhere/at/all",
        SEGMIND_RUN_BUDGET_USD="plenty",
    )
    assert "prompt_set" in found["keys"]


def test_loading_prints_no_warnings(tmp_path: Path) -> None:
    code = "from segmind_dagster.definitions import defs; defs.get_repository_def()"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(tmp_path), "DLT_DATA_DIR": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert loaded.stderr == ""
