"""The summaries add up to what the sandbox charged; the account assets say what the sandbox says."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

from lab.dagster_project import ACCOUNT, USAGE
from lab.project import FLUX, REALITY

from segmind_dagster.sandbox import Faults, ScriptedFault

if TYPE_CHECKING:
    import pytest
    from conftest import OpenLab
    from lab.dagster_project import DagsterLab

MODELS = (f"segmind/{REALITY}", f"segmind/{FLUX}")


def sums(jobs: list[dict[str, str]]) -> dict[str, Decimal]:
    """What the sandbox charged, by model."""
    usd: Counter[str] = Counter()
    for job in jobs:
        usd[job["slug"]] += Decimal(job["cost_usd"])
    return dict(usd)


def test_the_summaries_add_up_to_what_the_sandbox_charged(open_lab: OpenLab) -> None:
    refused = ScriptedFault(kind="invalid", slug="sdxl1.0-newreality-lightning")
    lab = open_lab(faults=Faults(script=[refused]))
    lab.write("apple", 3, models=[REALITY])
    lab.write("pear", ["a pear", "apple number 0"], models=[REALITY, FLUX])
    for key in ("apple", "pear"):
        assert lab.run(*MODELS, partition=key).is_success
    run = lab.run(*USAGE)
    assert run.is_success, run.errors()
    jobs, by_slug = lab.jobs(), sums(lab.jobs())

    by_model = {row["model"]: row for row in lab.records("SELECT * FROM usage_by_model")}
    assert {slug: row["cost_usd"] for slug, row in by_model.items()} == by_slug
    assert {slug: row["succeeded"] for slug, row in by_model.items()} == Counter(job["slug"] for job in jobs)
    assert sum(row["attempts"] for row in by_model.values()) == lab.posts

    by_set = {row["prompt_set"]: row for row in lab.records("SELECT * FROM usage_by_prompt_set")}
    assert sum(row["cost_usd"] for row in by_set.values()) == lab.charged_usd
    assert {key: row["generations"] for key, row in by_set.items()} == {"apple": 3, "pear": 4}

    days = lab.records("SELECT * FROM usage_by_day")
    assert sum(row["cost_usd"] for row in days) == lab.charged_usd
    assert sum(row["succeeded"] for row in days) == len(jobs)

    (failure,) = lab.records("SELECT * FROM usage_by_failure")
    assert (failure["failure_kind"], failure["model"], failure["attempts"], failure["cost_usd"]) == (
        "invalid_request", "sdxl1.0-newreality-lightning", 1, 0,
    )  # fmt: skip
    assert "sdxl1.0-newreality-lightning" in run.figures("usage/by_model")["summary"]


def test_summaries_follow_what_is_loaded_later(lab: DagsterLab) -> None:
    for n in (1, 3):
        lab.run(MODELS[0], partition=lab.write("apple", n))
        lab.run("usage/by_model")
        (row,) = lab.records("SELECT generations, cost_usd FROM usage_by_model")
        assert (row["generations"], row["cost_usd"]) == (n, lab.charged_usd)


def test_with_no_rows_yet_the_summaries_are_empty_tables(lab: DagsterLab) -> None:
    assert lab.run("segmind/instantid", partition=lab.write("apple", 1)).is_success
    run = lab.run(*USAGE)
    assert run.is_success, run.errors()
    for asset in USAGE:
        assert run.figures(asset)["summary"] == "No rows yet."
        table = asset.replace("/", "_")
        assert lab.records(f"SELECT count(*) AS n FROM {table}") == [{"n": 0}]
        shown = {column.name for column in run.figures(asset)["dagster/column_schema"].columns}
        stored = {row["column_name"] for row in lab.records(f"SELECT column_name FROM (DESCRIBE {table})")}
        assert shown == {name for name in stored if not name.startswith("_dlt")}


def test_one_summary_alone_can_be_selected(lab: DagsterLab) -> None:
    lab.run(MODELS[0], partition=lab.write("apple", 1))
    run = lab.run("usage/by_prompt_set")
    assert run.materialized() == {("usage/by_prompt_set", None)}
    assert not [row for row in lab.records("SHOW TABLES") if row["name"] == "usage_by_day"]


def test_the_account_is_loaded_as_the_sandbox_reports_it(lab: DagsterLab) -> None:
    lab.run(MODELS[0], partition=lab.write("apple", 2))
    run = lab.run(*ACCOUNT)
    assert run.is_success, run.errors()
    assert run.materialized() == {(asset, None) for asset in ACCOUNT}
    account = lab.server.account()
    (credits_,) = lab.records("SELECT balance_usd, credits_usd, api_origin FROM credits")
    assert credits_ == {
        "balance_usd": Decimal(account["balance_usd"]),
        "credits_usd": Decimal(account["balance_usd"]),
        "api_origin": lab.server.url,
    }
    history = {row["request_id"]: row["cost_usd"] for row in lab.records("SELECT * FROM request_history")}
    assert history == {job["request_id"]: Decimal(job["cost_usd"]) for job in account["jobs"]}
    assert "fast-flux-schnell" in {row["slug"] for row in lab.records("SELECT slug FROM models")}
    (page,) = lab.records("SELECT html FROM models_page")
    assert "<html" in page["html"].lower()


def test_reading_the_account_twice_adds_a_balance_and_no_second_request(lab: DagsterLab) -> None:
    lab.run(MODELS[0], partition=lab.write("apple", 1))
    for _ in range(2):
        assert lab.run("segmind/credits", "segmind/request_history").is_success
    assert lab.records("SELECT count(*) AS n FROM credits") == [{"n": 2}]
    assert lab.records("SELECT count(*) AS n FROM request_history") == [{"n": 1}]


def test_the_account_without_a_key_is_one_clear_failure(lab: DagsterLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    assert "SEGMIND_API_KEY" in lab.run(*ACCOUNT).failure()
