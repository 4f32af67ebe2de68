"""The scripts under examples/ run as their first lines say, and the questions of dlt's own page are answered."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import dlt
import duckdb
import pytest
from PIL import Image, ImageChops, ImageStat

from segmind_dagster.sandbox import SandboxServer, SandboxSettings

ROOT = Path(__file__).resolve().parents[2]
PIPELINE, DATASET = "segmind_consistent_character_ai_pipeline", "segmind_consistent_character_ai_data"
CHARACTER, FLUX = "consistent_character_neolemon_v2", "fast_flux_schnell"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The bundled prompt sets in a project of its own: whatever key this repository's owner has stays out."""
    shutil.copytree(ROOT / "prompts", tmp_path / "project" / "prompts")
    (tmp_path / "project" / ".dlt").mkdir()
    return tmp_path / "project"


def run_pipeline(server: SandboxServer, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{PIPELINE}.py")],
        cwd=folder,
        env={
            **os.environ,
            "SEGMIND_API_URL": server.url,
            "SEGMIND_REQUESTS_PER_MINUTE": "60000",
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_pipeline_of_dlts_page_works_as_documented(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # in the script's own working folder, so that dlt finds the default DuckDB file
    monkeypatch.chdir(project)
    with SandboxServer(SandboxSettings(picture_mode="tiny", fixed_latency_s=0.02)) as server:
        first = run_pipeline(server, project, SEGMIND_API_KEY=server.api_key)
        assert first.returncode == 0, first.stderr
        bought = server.account()["charges"]
        # what was not asked of these two models is not bought
        slugs = {job["slug"] for job in server.account()["jobs"]}
        # the key under the other name that dlt's page uses
        again = run_pipeline(server, project, SOURCES__SEGMIND_CONSISTENT_CHARACTER_AI_SOURCE__API_KEY=server.api_key)
        assert again.returncode == 0, again.stderr
        assert server.account()["charges"] == bought > 0
    assert slugs == {"consistent-character-AI-neolemon-v2", "fast-flux-schnell"}
    for said in (first.stdout, again.stdout):
        assert f"Pipeline {PIPELINE} load step " in said
        assert f"to destination duckdb and into dataset {DATASET}" in said
        assert "is LOADED and contains no failed jobs" in said

    data = dlt.pipeline(PIPELINE).dataset()
    character, flux = data.consistent_character_neolemon_v2.df(), data.fast_flux_schnell.df()
    assert len(character.head()) > 0
    assert len(character) + len(flux) == bought
    assert set(character["status"]) | set(flux["status"]) == {"succeeded"}
    assert all(Path(uri).is_file() for uri in character["output_uri"])
    assert set(character["api_origin"]) == {server.url}
    with duckdb.connect(str(project / f"{PIPELINE}.duckdb")) as connection:
        answer = connection.execute(f"SELECT * FROM {DATASET}.{CHARACTER} LIMIT 10").fetchall()
        (charged,) = connection.execute(f"SELECT sum(cost_usd) FROM {DATASET}.attempts").fetchone() or (None,)
    assert len(answer) == min(10, len(character))
    assert str(charged) == f"{server.account()['charged_usd']}000"


def test_the_pipeline_without_a_key_names_both_ways_to_give_one(project: Path) -> None:
    with SandboxServer(SandboxSettings(picture_mode="tiny")) as server:
        refused = run_pipeline(server, project)
        assert server.account()["submissions"] == 0
    assert refused.returncode != 0
    assert "no API key is set. Export SEGMIND_API_KEY, or put `api_key`" in refused.stderr


def test_the_bundled_portraits_use_the_generated_explorer_picture() -> None:
    script = runpy.run_path(str(ROOT / "examples" / "draw_explorer.py"))
    drawn = script["draw"]().convert("RGB")
    with Image.open(script["PICTURE"]) as bundled:
        assert bundled.size == drawn.size == (512, 512)
        difference = ImageChops.difference(drawn, bundled.convert("RGB"))
    # the bundled one has fewer colours: near everywhere, the same almost everywhere
    assert max(ImageStat.Stat(difference).mean) < 2
