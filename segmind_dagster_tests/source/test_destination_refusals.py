"""Destinations that cannot be used: one sentence, before anything is bought; later on, nothing is lost."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest
from lab.destinations import Place, Warehouse
from lab.project import FLUX

from segmind_dagster.errors import DestinationError, SettingsError
from segmind_dagster.source import check_destination

if TYPE_CHECKING:
    from pathlib import Path

    from lab.source_project import Project

SCRIPT = """
import dlt
from segmind_dagster.source import segmind_source
pipeline = dlt.pipeline("mine", destination=dlt.destinations.filesystem(bucket_url={url!r}), dataset_name="images")
pipeline.run(segmind_source(prompt_sets=["fruit"], models=["fast_flux_schnell"]).with_resources("fast_flux_schnell"))
"""
LAKE_SCRIPT = """
import dlt
from segmind_dagster.source import segmind_source
from segmind_dagster.source.lake import lake, with_empty_tables
pipeline = dlt.pipeline("mine", destination=lake(bucket_url={url!r}), dataset_name="images")
for _ in range(2):
    source = segmind_source(prompt_sets=["fruit"], models=["fast_flux_schnell", "sdxl_newreality"])
    pipeline.run(with_empty_tables(source.with_resources("fast_flux_schnell", "sdxl_newreality", "attempts")))
print(pipeline.dataset().fast_flux_schnell.df()["prompt"].tolist(), len(pipeline.dataset().sdxl_newreality.df()))
"""


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def refusal(project: Project, destination: str) -> str:
    with pytest.raises((DestinationError, SettingsError)) as raised:
        check_destination(project.settings(SEGMIND_DESTINATION=destination))
    message = str(raised.value)
    assert message.endswith("Nothing was submitted.")
    assert "\n" not in message
    return message


def test_an_unknown_destination_is_refused(project: Project) -> None:
    assert "dlt knows no destination 'postgress'" in refusal(project, "postgress")


def test_a_database_that_is_down_is_named_without_its_password(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://loader:hunter2@127.0.0.1:{closed_port()}/media"
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", url)
    message = refusal(project, "postgres")
    assert "'postgres' cannot be used" in message
    assert "Connection refused" in message
    assert "hunter2" not in message


def test_credentials_that_are_missing_are_named(project: Project) -> None:
    message = refusal(project, "postgres")
    assert "database, password, username, host" in message
    assert "DESTINATION__POSTGRES__CREDENTIALS" in message


@pytest.mark.postgres
def test_a_database_that_refuses_us_says_why(
    project: Project, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_server.replace("@", ":unused@")
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", f"{url}/nowhere")
    assert 'database "nowhere" does not exist' in refusal(project, "postgres")


def test_a_driver_that_is_not_installed_is_named_with_how_to_install_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert 'pip install "dlt[snowflake]"' in refusal_of_snowflake(project, monkeypatch)
    monkeypatch.setitem(sys.modules, "deltalake", None)
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", f"file://{tmp_path}/lake")
    assert 'deltalake not installed: pip install "segmind-dagster[filesystem]"' in refusal(project, "filesystem")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", "s3://bucket/lake")
    assert 'pip install "segmind-dagster[filesystem,s3]"' in refusal(project, "filesystem")


def refusal_of_snowflake(project: Project, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DESTINATION__SNOWFLAKE__CREDENTIALS", "snowflake://loader:p@account/db?warehouse=w&role=r")
    return refusal(project, "snowflake")


def test_a_relative_destination_folder_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", "lake")
    assert "DESTINATION__FILESYSTEM__BUCKET_URL: 'lake' is relative" in refusal(project, "filesystem")


def test_an_unreachable_bucket_is_refused(project: Project, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", f"{s3_bucket}/lake")
    check_destination(project.settings(SEGMIND_DESTINATION="filesystem"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    nowhere = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("DESTINATION__FILESYSTEM__CREDENTIALS__ENDPOINT_URL", nowhere)
    assert f'Could not connect to the endpoint URL: "{nowhere}/' in refusal(project, "filesystem")


def test_a_named_destination_of_a_known_type_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DESTINATION__MY_LAKE__DESTINATION_TYPE", "filesystem")
    monkeypatch.setenv("DESTINATION__MY_LAKE__BUCKET_URL", f"file://{tmp_path}/lake")
    warehouse = Warehouse(project, Place("my_lake"))
    project.buy(project.write("fruit", ["a pear"]))
    warehouse.load(FLUX)
    warehouse.load(FLUX)
    assert warehouse.rows(f"SELECT prompt FROM {FLUX}") == [("a pear",)]


def test_a_load_that_fails_after_generating_loses_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", f"file://{lake}")
    warehouse = Warehouse(project, Place("filesystem"))
    project.buy(project.write("fruit", ["a pear"]))
    lake.write_text("somebody's file")
    with pytest.raises(DestinationError) as raised:
        warehouse.load(FLUX, "attempts")
    assert "`segmind-dagster reload` loads them all" in str(raised.value)
    assert "nothing is paid for twice" in str(raised.value)
    lake.unlink()
    warehouse.load(FLUX, "attempts")
    assert warehouse.rows("SELECT count(*), sum(cost_usd) FROM attempts") == [(1, project.charged_usd)]
    assert project.posts == 1


def test_a_new_destination_shows_its_own_rows(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", f"file://{tmp_path}/lake")
    duckdb, folder = (Warehouse(project, Place(name)) for name in ("duckdb", "filesystem"))
    project.buy(project.write("fruit", ["a pear"]))
    folder.load(FLUX)
    project.buy(project.write("harvest", ["a plum"]))
    duckdb.load(FLUX)
    assert folder.rows(f"SELECT prompt FROM {FLUX}") == [("a pear",)]
    assert duckdb.rows(f"SELECT prompt FROM {FLUX} ORDER BY 1") == [("a pear",), ("a plum",)]


def test_a_custom_script_cannot_double_its_rows(project: Project, tmp_path: Path) -> None:
    project.write("fruit", ["a pear"])
    url = f"file://{tmp_path}/lake"
    done = project.python(SCRIPT.format(url=url), cwd=project.folder)
    assert done.returncode == 1
    assert "rows would double with every load" in done.stderr
    assert project.posts == 0
    done = project.python(LAKE_SCRIPT.format(url=url), cwd=project.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['a pear'] 0"
    assert project.posts == 1
