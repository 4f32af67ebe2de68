from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from segmind_dagster.errors import SettingsError
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


def load(folder: Path, environ: dict[str, str] | None = None, **overrides: Any) -> Any:
    return load_settings(environ={"SEGMIND_PROJECT_DIR": str(folder), **(environ or {})}, **overrides)


def test_an_explicit_gateway_also_sets_history_uploads_and_outputs(tmp_path: Path) -> None:
    settings = load(tmp_path, api_url="http://127.0.0.1:8777")
    assert settings.platform_url == settings.storage_url == "http://127.0.0.1:8777"
    assert settings.output_hosts == ()


@pytest.mark.parametrize("name", ["api_url", "platform_url", "storage_url"])
def test_an_explicit_address_is_checked_like_any_other(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=f"SEGMIND_{name.upper()}"):
        load(tmp_path, **{name: "http://api.example"})


def test_an_explicit_relative_folder_starts_at_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = load(tmp_path / "project", data_dir="kept")
    assert settings.data_dir == (tmp_path / "project" / "kept").resolve()
    assert settings.ledger_url == f"sqlite:///{settings.data_dir}/ledger.sqlite"


def test_a_relative_ledger_file_starts_at_the_project(tmp_path: Path) -> None:
    assert (
        load(tmp_path, {"SEGMIND_LEDGER_URL": "sqlite:///books/l.db"}).ledger_url
        == f"sqlite:///{tmp_path.resolve()}/books/l.db"
    )
    assert load(tmp_path, {"SEGMIND_LEDGER_URL": "sqlite:////books/l.db"}).ledger_url == "sqlite:////books/l.db"


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "https://api.segmind.com:port", "https://api.segmind.com:99999", "https://api.segmind.com#v1"],
)
def test_a_url_that_cannot_be_read_is_named_with_its_variable(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match=r"^SEGMIND_API_URL: "):
        load(tmp_path, {"SEGMIND_API_URL": url})


def test_the_case_of_a_host_makes_no_other_origin(tmp_path: Path) -> None:
    settings = load(tmp_path, {"SEGMIND_API_URL": "https://API.Segmind.com/v1"})
    assert settings == load(tmp_path)
