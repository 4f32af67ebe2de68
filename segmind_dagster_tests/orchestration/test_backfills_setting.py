"""`SEGMIND_BACKFILL`: whether a backfill over many prompt sets is a run a set, or one run a range of sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
from lab.dagster_project import asset_key
from lab.project import REALITY

from segmind_dagster.errors import SettingsError
from segmind_dagster.orchestration.build import build_definitions
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

SINGLE = dg.BackfillPolicy.single_run()


def policy_of(definitions: dg.Definitions) -> dg.BackfillPolicy | None:
    """What Dagster goes by for the model assets."""
    return definitions.resolve_asset_graph().get(asset_key(f"segmind/{REALITY}")).backfill_policy


def is_single(policy: dg.BackfillPolicy | None) -> bool:
    return policy is not None and policy.policy_type == SINGLE.policy_type


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".dlt").mkdir()
    monkeypatch.setenv("SEGMIND_PROJECT_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("value", "is_one_run"), [(None, False), ("", False), ("runs", False), ("single_run", True)])
def test_the_variable_decides_how_a_backfill_becomes_runs(
    monkeypatch: pytest.MonkeyPatch, value: str | None, *, is_one_run: bool
) -> None:
    if value is not None:
        monkeypatch.setenv("SEGMIND_BACKFILL", value)
    assert is_single(policy_of(build_definitions())) is is_one_run
    assert load_settings().backfill == (value or "runs")


def test_the_projects_file_decides_where_no_variable_does(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".dlt" / "config.toml").write_text('[sources.segmind]\nbackfill = "single_run"\n')
    assert is_single(policy_of(build_definitions()))
    monkeypatch.setenv("SEGMIND_BACKFILL", "runs")
    assert not is_single(policy_of(build_definitions()))


def test_a_policy_given_to_the_definitions_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMIND_BACKFILL", "runs")
    assert is_single(policy_of(build_definitions(backfill_policy=SINGLE)))


def test_an_invalid_value_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMIND_BACKFILL", "single")
    with pytest.raises(SettingsError, match=r"SEGMIND_BACKFILL.*'single' is neither `runs` nor `single_run`"):
        build_definitions()


def test_another_invalid_setting_does_not_prevent_loading_the_definitions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEGMIND_MAX_IN_FLIGHT", "many")
    assert not is_single(policy_of(build_definitions()))
    with pytest.raises(SettingsError, match="SEGMIND_MAX_IN_FLIGHT"):
        load_settings()
