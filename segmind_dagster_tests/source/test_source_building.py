"""A source can be built anywhere, at import, with nothing: no key, no network, no file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from segmind_dagster.errors import RegistryError
from segmind_dagster.registry import MODELS
from segmind_dagster.source import ACCOUNT_RESOURCES, segmind_source

if TYPE_CHECKING:
    from pathlib import Path

ALONE = """
import json, socket
def refuse(*_): raise AssertionError("building a source opened a connection")
socket.socket.connect = refuse
from segmind_dagster.source import segmind_source
source = segmind_source()
print(json.dumps([source.name, source.section, sorted(source.resources)]))
"""


def test_building_needs_no_key_or_network_and_creates_no_file(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    environ = {
        "HOME": str(tmp_path / "home"),
        "DLT_DATA_DIR": str(tmp_path / "dlt"),
        "PATH": os.environ["PATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }
    built = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=tmp_path / "work", env=environ, capture_output=True, text=True, check=True
    )
    name, section, resources = json.loads(built.stdout)
    assert (name, section) == ("segmind", "segmind")
    assert resources == sorted([*(model.resource for model in MODELS), "attempts", *ACCOUNT_RESOURCES])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["fast_flux_schnell", "fast-flux-schnell"])
def test_models_are_chosen_by_resource_name_or_slug(name: str) -> None:
    resources = set(segmind_source(models=[name]).resources)
    assert resources == {"fast_flux_schnell", "attempts", *ACCOUNT_RESOURCES}


def test_an_unknown_model_is_refused_with_the_existing_ones() -> None:
    with pytest.raises(RegistryError, match="fast_flux_schnell"):
        segmind_source(models=["fast_flux"])


def test_every_resource_has_a_description_and_a_write_disposition() -> None:
    source = segmind_source()
    dispositions = {name: resource.write_disposition for name, resource in source.resources.items()}
    others = {name: dispositions.pop(name) for name in ("credits", "models", "model_changes")}
    assert others == {"credits": "append", "models": "replace", "model_changes": "append"}
    assert set(dispositions.values()) == {"merge"}
    for model in MODELS:
        table = source.resources[model.resource].compute_table_schema()
        keys = {name for name, column in table["columns"].items() if column.get("primary_key")}
        assert keys == {"prompt_set", "generation_id"}
