"""The code location loads anywhere: without a key, a project, a network, and without leaving a trace."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# what the interpreter is asked to do is noted by an audit hook; connections are refused on top
LOAD = """
import json, os, socket, sys
connections, writes = [], []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC

def note(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        connections.append(repr(arguments[1:]))
    elif event == "open" and isinstance(arguments[0], str) and (arguments[2] or 0) & WRITING:
        writes.append(arguments[0])
    elif event in {"os.mkdir", "os.rename", "os.remove", "sqlite3.connect"}:
        writes.append(f"{event} {arguments[0]}")

sys.addaudithook(note)

def refuse(*arguments, **options):
    raise OSError("no network in this test")

socket.socket.connect = socket.socket.connect_ex = refuse
before = dict(os.environ)

import segmind_dagster.definitions as location
defs = location.defs
repository = defs.get_repository_def()
print(json.dumps({
    "assets": sorted(key.to_user_string() for key in repository.assets_defs_by_key),
    "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
    "schedules": sorted(schedule.name for schedule in repository.schedule_defs),
    "connections": connections,
    "writes": [path for path in writes if path != os.devnull],
    "changed": sorted(name for name in {**before, **os.environ} if before.get(name) != os.environ.get(name)),
}))
"""
RESOURCES = [
    "fast_flux_schnell",
    "face_to_sticker",
    "instantid",
    "sdxl_newreality",
    "consistent_character_neolemon_v2",
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What loading did, in a fresh interpreter with an empty environment; and the folder it was in."""
    folder = tmp_path_factory.mktemp("anywhere")
    done = subprocess.run(
        [sys.executable, "-B", "-c", LOAD], cwd=folder, env={}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), folder


def test_the_code_location_loads_with_an_empty_environment_and_offers_every_model(loaded: tuple[Any, Path]) -> None:
    assert {f"segmind/{resource}" for resource in RESOURCES} <= set(loaded[0]["assets"])
    assert "prompt_set" in loaded[0]["assets"]
    assert loaded[0]["sensors"]
    assert loaded[0]["schedules"]


def test_loading_the_code_location_sends_no_request(loaded: tuple[Any, Path]) -> None:
    assert loaded[0]["connections"] == []


def test_loading_the_code_location_writes_no_file(loaded: tuple[Any, Path]) -> None:
    assert loaded[0]["writes"] == []
    assert list(loaded[1].iterdir()) == []


def test_loading_the_code_location_changes_no_variable_of_ours(loaded: tuple[Any, Path]) -> None:
    ours = ("SEGMIND_", "SOURCES__", "DESTINATION__")
    assert not [name for name in loaded[0]["changed"] if name.startswith(ours)]
