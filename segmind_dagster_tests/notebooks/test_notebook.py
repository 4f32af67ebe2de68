"""The notebook runs by itself, over what a sandbox run has loaded, and over nothing at all."""

from __future__ import annotations

import html
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from segmind_dagster.prompts import find_prompt_set
from segmind_dagster.registry import MODELS
from segmind_dagster.runner import Batch, generate
from segmind_dagster.sandbox import Faults, SandboxServer, SandboxSettings
from segmind_dagster.settings import load_settings
from segmind_dagster.source import build_source, load

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "segmind.py"
_CELL_FAILED = "failed to execute"


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    faults = Faults(script=["invalid"])
    with SandboxServer(SandboxSettings(picture_mode="tiny", fixed_latency_s=0.02, faults=faults)) as server:
        yield server


@pytest.fixture
def folder(sandbox: SandboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a prompt set, and its settings in the environment."""
    for name in (".dlt", "prompts"):
        (tmp_path / "project" / name).mkdir(parents=True)
    prompts = "models: [fast_flux_schnell, wan_t2v_fast]\nprompts: [a pear, '<b>a plum</b>']\n"
    (tmp_path / "project" / "prompts" / "fruit.yaml").write_text(prompts, encoding="utf-8")
    for name, value in {
        "PROJECT_DIR": str(tmp_path / "project"),
        "API_URL": sandbox.url,
        "API_KEY": sandbox.api_key,
        "REQUESTS_PER_MINUTE": "60000",
    }.items():
        monkeypatch.setenv(f"SEGMIND_{name}", value)
    return tmp_path / "project"


def exported(folder: Path) -> str:
    """The notebook run from top to bottom, as a page."""
    page = folder / "page.html"
    command = [sys.executable, "-m", "marimo", "export", "html", str(NOTEBOOK), "-o", str(page), "--no-include-code"]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert _CELL_FAILED not in done.stderr
    return html.unescape(page.read_text(encoding="utf-8"))


def test_the_notebook_shows_money_models_and_pictures_after_a_run(folder: Path, sandbox: SandboxServer) -> None:
    settings = load_settings()
    fruit = find_prompt_set("fruit", prompts_dir=folder / "prompts", project_dir=folder)
    generate(settings, [Batch(fruit, tuple(model.resource for model in fruit.models))])
    names = [model.resource for model in MODELS]
    load(settings, build_source(settings, prompt_sets=None).with_resources(*names, "attempts"))
    before = sandbox.account()
    page = exported(folder)
    assert "Spend by model" in page
    assert "fast-flux-schnell" in page
    assert "data:image/jpeg;base64," in page
    assert "<b>a plum</b>" not in page
    done = subprocess.run(
        [sys.executable, str(NOTEBOOK)], cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sandbox.account() == before


def test_the_notebook_says_so_when_nothing_was_loaded(folder: Path) -> None:
    assert "Nothing has been loaded yet" in exported(folder)
    settings = load_settings()
    names = [model.resource for model in MODELS]
    load(settings, build_source(settings, prompt_sets=None).with_resources(*names, "attempts"))
    assert "hold no rows yet" in exported(folder)
