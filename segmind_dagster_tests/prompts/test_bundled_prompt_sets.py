from __future__ import annotations

from pathlib import Path

from segmind_dagster.prompts import load_prompt_set, scan_prompts
from segmind_dagster.registry import MODELS

PROJECT = Path(__file__).parents[2]


def test_every_bundled_set_loads_and_together_they_show_every_model_and_form() -> None:
    folder = scan_prompts(PROJECT / "prompts")
    assert not folder.problems
    sets = [load_prompt_set(path, project_dir=PROJECT) for path in folder.files.values()]
    assert len(sets) >= 7
    assert {path.suffix for path in folder.files.values()} == {".yaml", ".csv", ".jsonl", ".txt"}
    assert {model for prompt_set in sets for model in prompt_set.models} == set(MODELS)
    assert 85 <= sum(len(prompt_set.generations) for prompt_set in sets) <= 115
    assert all(prompt_set.description for prompt_set in sets)
    assert not any(prompt_set.auto_run for prompt_set in sets)


def test_no_bundled_generation_is_asked_for_twice() -> None:
    paths = scan_prompts(PROJECT / "prompts").files.values()
    ids = [r.generation_id for path in paths for r in load_prompt_set(path, project_dir=PROJECT).generations]
    assert len(ids) == len(set(ids))


def test_the_bundled_picture_is_small_and_square() -> None:
    from PIL import Image

    picture = PROJECT / "prompts" / "pictures" / "explorer.png"
    assert picture.stat().st_size < 100_000
    with Image.open(picture) as image:
        assert image.size == (512, 512)
