"""A project on one machine: the sandbox is forced where it should be, and a taken port is one clear error."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
import yaml

from segmind_dagster.errors import SettingsError
from segmind_dagster.orchestration.local import (
    LocalProject,
    find_project,
    prepare_dagster_home,
    run_dagster_dev,
    running_sandbox,
    use_sandbox,
)
from segmind_dagster.sandbox import SANDBOX_API_KEY
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _the_environment_as_it_was() -> Iterator[None]:
    """These functions change the environment of their process for good."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project" / ".dlt").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


REAL = {
    "SEGMIND_API_KEY": "SG_0123456789abcdef",
    "SOURCES__SEGMIND__API_KEY": "SG_fedcba9876543210",
    "SEGMIND_API_URL": "https://api.segmind.com",
    "SEGMIND_PLATFORM_URL": "https://api.spotprod.segmind.com",
    "SEGMIND_DATA_DIR": "/srv/real",
    "SEGMIND_LEDGER_URL": "postgresql://real",
    "SEGMIND_OUTPUTS_URL": "s3://real",
    "SEGMIND_DESTINATION": "bigquery",
    "SEGMIND_ACCOUNT": "real",
}


@pytest.mark.parametrize("is_exported", [True, False])
def test_the_sandbox_is_used_even_when_a_real_key_is_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_exported: bool
) -> None:
    if is_exported:
        for name, value in REAL.items():
            monkeypatch.setenv(name, value)
    else:
        lines = [
            f'{name.removeprefix("SEGMIND_").lower()} = "{value}"' for name, value in REAL.items() if "__" not in name
        ]
        (folder / ".dlt" / "secrets.toml").write_text("\n".join(["[sources.segmind]", *lines]))
    project = use_sandbox(8500)
    settings = load_settings()
    assert project == LocalProject(folder, folder / "demo_data", is_sandboxed=True)
    assert settings.api_key == SANDBOX_API_KEY
    for url in (settings.api_url, settings.platform_url, settings.storage_url):
        assert url == "http://127.0.0.1:8500"
    assert settings.is_sandbox
    assert settings.data_dir == folder / "demo_data"
    assert settings.ledger_url == f"sqlite:///{folder / 'demo_data' / 'ledger.sqlite'}"
    assert settings.outputs_url == str(folder / "demo_data" / "outputs")
    assert settings.destination == "duckdb"
    # nor is anything of the real account left to this process's children
    assert not {"SG_0123456789abcdef", "SG_fedcba9876543210", "real"} & set(os.environ.values())


def test_a_prompts_folder_given_by_hand_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMIND_PROMPTS_DIR", "mine")
    use_sandbox(8500)
    assert load_settings().prompts_dir == folder / "mine"


def test_with_a_key_the_project_is_the_real_one_without_the_sandbox(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_project().is_sandboxed
    for name in [name for name in os.environ if name.startswith("SEGMIND_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SEGMIND_API_KEY", REAL["SEGMIND_API_KEY"])
    project = find_project()
    assert (project.is_sandboxed, project.data_dir) == (False, folder / "data")
    assert load_settings().api_url == "https://api.segmind.com"


def test_a_dagster_home_is_created_once_and_a_changed_file_kept(folder: Path) -> None:
    project = LocalProject(folder, folder / "data", is_sandboxed=False)
    prepare_dagster_home(project)
    config = folder / "data" / "dagster_home" / "dagster.yaml"
    assert yaml.safe_load(config.read_text())["telemetry"] == {"enabled": False}
    assert (os.environ["DAGSTER_HOME"], os.environ["DO_NOT_TRACK"]) == (str(config.parent), "1")
    config.write_text("telemetry: {enabled: false}\n")
    prepare_dagster_home(project)
    assert config.read_text() == "telemetry: {enabled: false}\n"


def test_a_sandbox_that_runs_already_is_used_and_outlives_its_second_user(folder: Path) -> None:
    project, port = LocalProject(folder, folder / "data", is_sandboxed=True), free_port()
    with running_sandbox(project, port=port) as first:
        assert first is not None
        with running_sandbox(project, port=port) as second:
            assert second is None
        assert first.account()["submissions"] == 0
        with socket.create_connection(("127.0.0.1", port)):
            pass


def test_something_else_on_the_sandboxs_port_is_one_clear_error(folder: Path) -> None:
    project = LocalProject(folder, folder / "data", is_sandboxed=True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port} .* is in use"), running_sandbox(project, port=port):
            pass


def test_a_taken_port_of_the_ui_is_one_clear_error(folder: Path) -> None:
    project = LocalProject(folder, folder / "data", is_sandboxed=False)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"):
            run_dagster_dev(project, host="127.0.0.1", port=port)
