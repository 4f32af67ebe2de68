from typing import Any

from lab.dagster_project import ACCOUNT, USAGE
from lab.project import FLUX, REALITY

ASSET = f"segmind/{REALITY}"


def test_before_the_first_load_the_summaries_are_empty_tables(lab: Any) -> None:
    run = lab.run(*USAGE)
    assert run.is_success, run.errors()
    for asset in USAGE:
        assert run.figures(asset)["summary"] == "No rows yet."
        assert lab.records(f"SELECT count(*) AS n FROM {asset.replace('/', '_')}") == [{"n": 0}]


def test_the_metadata_of_a_run_names_the_same_table_as_the_definition(lab: Any) -> None:
    figures = lab.run(ASSET, partition=lab.write("fruit", 1)).figures(ASSET, "fruit")
    assert figures.get("dagster/table_name", f"segmind_data.{REALITY}") == f"segmind_data.{REALITY}"


def test_the_spend_of_an_unused_model_stays_in_the_summary(lab: Any) -> None:
    lab.run(ASSET, partition=lab.write("fruit", 2))
    paid_usd = lab.charged_usd
    lab.write("fruit", 2, models=[FLUX])
    lab.run(ASSET, f"segmind/{FLUX}", partition="fruit")
    lab.run(*USAGE)
    rows = {row["model"]: row for row in lab.records("SELECT * FROM usage_by_model")}
    old = rows["sdxl1.0-newreality-lightning"]
    assert (old["cost_usd"], old["generations"]) == (paid_usd, 0)
    assert sum(row["cost_usd"] for row in rows.values()) == lab.charged_usd


def test_the_account_with_a_wrong_key_is_one_clear_failure(lab: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", "SG_0123456789abcdef")
    failure = lab.run(*ACCOUNT).failure()
    assert "GET /v1/get-user-credits: answered 401" in failure
    assert "Traceback" not in failure


def test_the_sandbox_never_loads_into_the_real_warehouse(lab: Any, monkeypatch: Any, tmp_path: Any) -> None:
    import os

    from segmind_dagster.orchestration.local import use_sandbox
    from segmind_dagster.settings import load_settings
    from segmind_dagster.source.pipeline import segmind_pipeline

    before = dict(os.environ)
    try:
        os.environ["SEGMIND_PROJECT_DIR"] = str(lab.folder)
        os.environ["DESTINATION__DUCKDB__CREDENTIALS"] = f"duckdb:///{tmp_path}/real.duckdb"
        use_sandbox()
        pipeline = segmind_pipeline(load_settings())
        assert "real.duckdb" not in str(pipeline.destination_client().config.credentials)
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_a_warehouse_that_is_down_is_found_before_anything_is_bought(lab: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SEGMIND_DESTINATION", "postgres")
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", "postgresql://loader:hunter2@127.0.0.1:1/media")
    failure = lab.run(ASSET, partition=lab.write("fruit", 1)).failure()
    assert "The destination 'postgres' cannot be used" in failure
    assert failure.rstrip().endswith("Nothing was submitted.")
    assert "hunter2" not in failure
    assert lab.charged_usd == 0
