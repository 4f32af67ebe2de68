"""Ledger, history and balance after runs that went wrong in every way: three sums that agree, or a check that tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import requests
from lab.checks import recorded, run_checks
from lab.dagster_project import ACCOUNT, SPEND, USAGE
from lab.project import FLUX, REALITY
from sqlalchemy import update

from segmind_dagster.data_folder import opened
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS
from segmind_dagster.reports.account_totals import account_totals
from segmind_dagster.runner.resolving import buy_again
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.dagster_project import DagsterLab

MODELS = (f"segmind/{REALITY}", f"segmind/{FLUX}")
# what the comparisons are made of, of all that the account tells
CHARGES = ("segmind/credits", "segmind/request_history")
CHECKS = {
    "spend/unexplained": "charges_explained", "spend/paid_twice": "nothing_paid_twice",
    "spend/not_held": "everything_paid_is_held", "spend/cost_differences": "costs_agree",
    "spend/balance": "balance_agrees", "spend/runway": "balance_lasts",
}  # fmt: skip
BALANCE = ("spend/balance", "balance_agrees")
FAULTS = Faults(
    script=[
        "accepted_then_reset", "failed_validation", "server_error", "rate_limited", "accepted_unreadable", "failed",
        "bad_gateway", "truncated", "gateway_timeout", "poll_error", "accepted_202",
    ]
)  # fmt: skip


def compared(lab: DagsterLab) -> dict[str, str]:
    """Materialize the comparisons; what each check says."""
    run = lab.run(*SPEND)
    assert run.is_success, run.errors()
    return {asset: recorded(lab, asset, check).status for asset, check in CHECKS.items()}


def bought_elsewhere(lab: DagsterLab, prompt: str = "somebody's pear") -> str:
    answer = requests.post(
        f"{lab.server.url}/v2/fast-flux-schnell", json={"prompt": prompt, "seed": 1},
        headers={"x-api-key": lab.server.api_key}, timeout=10,
    )  # fmt: skip
    request_id: str = answer.json()["request_id"]
    return request_id


def test_after_faults_ledger_history_balance_and_sandbox_agree_to_the_cent(open_lab: OpenLab) -> None:
    lab = open_lab(faults=FAULTS)
    assert lab.run("segmind/credits").is_success
    key = lab.write("fruit", 6, models=[REALITY, FLUX])
    lab.run(*MODELS, partition=key)
    lab.run(*MODELS, partition=key)
    assert lab.run(*CHARGES, *USAGE).is_success
    assert set(compared(lab).values()) == {"SUCCEEDED"}

    charged = lab.charged_usd
    assert charged > 0
    assert lab.records("SELECT sum(cost_usd) AS usd FROM attempts") == [{"usd": charged}]
    assert lab.records("SELECT sum(cost_usd) AS usd FROM request_history") == [{"usd": charged}]
    assert lab.records("SELECT sum(cost_usd + estimated_cost_usd) AS usd FROM usage_by_day") == [{"usd": charged}]
    (window,) = lab.records("SELECT * FROM spend_balance")
    assert (window["decrease_usd"], window["history_usd"], window["ledger_usd"]) == (charged, charged, charged)
    assert (window["difference_usd"], window["verdict"]) == (0, "agrees")
    said = recorded(lab, *BALANCE)
    assert said.said.count(f"${charged:.4f}") == 3
    assert said.figures["charged according to the ledger (USD)"] == float(charged)


def test_a_foreign_charge_is_reported_with_its_request_and_cost(lab: DagsterLab) -> None:
    lab.run(MODELS[0], partition=lab.write("fruit", 1))
    ours = lab.charged_usd
    request_id = bought_elsewhere(lab)
    while lab.charged_usd == ours:
        lab.run("segmind/credits")
    assert lab.run(*CHARGES).is_success
    found = compared(lab)
    assert found == dict.fromkeys(CHECKS, "SUCCEEDED") | {"spend/unexplained": "FAILED"}
    (row,) = lab.records("SELECT * FROM spend_unexplained")
    assert (row["request_id"], row["may_be_ours"], row["api_origin"]) == (request_id, False, lab.server.url)
    assert row["cost_usd"] == lab.charged_usd - ours
    red = recorded(lab, "spend/unexplained", "charges_explained")
    assert red.severity == "WARN"
    assert red.figures["not explained (USD)"] == float(row["cost_usd"])
    assert [each["request_id"] for each in red.sample] == [request_id]
    told = account_totals(lab.segmind.load())
    assert told["balance"] == f"${Decimal(lab.server.account()['balance_usd']):.2f}"
    assert told["charged, by Segmind's history"] == f"${lab.charged_usd:.4f}"
    assert told["the same requests, by our ledger"] == f"${ours:.4f}"
    assert told["charged by Segmind, not in our ledger"] == f"${row['cost_usd']:.4f}"
    assert (told["paid twice by accident"], told["paid for and not stored"]) == ("$0.00", "$0.00")


def test_a_green_balance_beside_a_foreign_charge_explains_both(lab: DagsterLab) -> None:
    lab.run(MODELS[0], partition=lab.write("fruit", 1))
    assert lab.run("segmind/credits").is_success
    ours = lab.charged_usd
    bought_elsewhere(lab)
    while lab.charged_usd == ours:
        lab.run("segmind/credits")
    assert lab.run(*CHARGES).is_success
    found = compared(lab)
    assert (found["spend/balance"], found["spend/unexplained"]) == ("SUCCEEDED", "FAILED")
    assert "`charges_explained` tells of charges that are not ours" in recorded(lab, *BALANCE).said
    assert "`balance_agrees` can be green" in recorded(lab, "spend/unexplained", "charges_explained").said


def test_submissions_after_the_last_history_reading_are_counted_without_alarm(lab: DagsterLab) -> None:
    lab.run(MODELS[0], partition=lab.write("fruit", 2))
    assert lab.run(*CHARGES).is_success
    before = lab.charged_usd
    lab.run(MODELS[0], partition=lab.write("harvest", 3))
    assert set(compared(lab).values()) == {"SUCCEEDED"}
    newer = lab.charged_usd - before
    for asset, check in CHECKS.items():
        said = recorded(lab, asset, check)
        if asset == "spend/runway":
            assert "UTC, when it was last read" in said.said
            continue
        assert " UTC, when Segmind's history was last read" in said.said
        assert f"sent after that: 3 submissions, ${newer:.4f} charged or reserved" in said.said
        assert said.figures["not compared yet (USD)"] == float(newer)
    assert lab.run(*CHARGES).is_success
    assert set(compared(lab).values()) == {"SUCCEEDED"}
    assert "our ledger has no charge after that" in recorded(lab, *BALANCE).said


def test_a_check_alone_reports_the_history_reading_that_was_compared(lab: DagsterLab) -> None:
    lab.run(MODELS[0], partition=lab.write("fruit", 1))
    assert lab.run(*CHARGES).is_success
    compared(lab)
    read_at = recorded(lab, *BALANCE).figures["history read at (UTC)"]
    assert lab.run("segmind/request_history").is_success
    assert run_checks(lab, BALANCE)
    assert recorded(lab, *BALANCE).figures["history read at (UTC)"] == read_at
    compared(lab)
    assert recorded(lab, *BALANCE).figures["history read at (UTC)"] > read_at


def test_a_ledger_newer_than_the_history_is_not_reported_to_agree(lab: DagsterLab) -> None:
    assert lab.run(*CHARGES).is_success
    lab.run(MODELS[0], partition=lab.write("fruit", 1))
    assert set(compared(lab).values()) == {"SUCCEEDED"}
    for asset in ("spend/unexplained", "spend/cost_differences"):
        said = recorded(lab, asset, CHECKS[asset]).said
        assert said.startswith("Nothing was compared with Segmind's history: it was last read")


def test_purchases_repeated_by_a_person_are_shown_and_stay_green(open_lab: OpenLab) -> None:
    lab = open_lab(record_ttl_s=0.0, file_ttl_s=0.0)
    key = lab.write("fruit", 1, models=[FLUX])
    lab.run(MODELS[1], partition=key)
    assert [row["failure_kind"] for row in lab.generations()] == ["expired"]
    first_usd = lab.charged_usd
    buy_again(lab.segmind.load(), lab.generations()[0]["generation_id"])
    from segmind_dagster.source import build_source, load

    load(lab.segmind.load(), build_source(lab.segmind.load(), prompt_sets=None).with_resources(FLUX, "attempts"))
    assert compared(lab)["spend/not_held"] == "SUCCEEDED"
    assert "to be bought again by decision" in recorded(lab, "spend/not_held", CHECKS["spend/not_held"]).said

    lab.run(MODELS[1], partition=key)
    second_usd = lab.charged_usd - first_usd
    assert second_usd > 0
    assert compared(lab)["spend/paid_twice"] == "SUCCEEDED"
    (row,) = lab.records("SELECT charges, excess_usd, decided_usd FROM spend_paid_twice")
    assert row == {"charges": 2, "excess_usd": 0, "decided_usd": second_usd}
    by_history = recorded(lab, "spend/paid_twice", "nothing_paid_twice")
    by_ledger = recorded(lab, MODELS[1], "charged_once", key)
    assert (by_ledger.status, by_ledger.figures["bought again by decision (USD)"]) == ("SUCCEEDED", float(second_usd))
    assert by_history.said.startswith(by_ledger.said)
    assert f"bought again by decision for ${second_usd:.4f}" in by_ledger.said


def test_unloaded_rows_that_the_ledger_knows_are_no_alarm(lab: DagsterLab) -> None:
    lab.run(MODELS[0], partition=lab.write("fruit", 1))
    # as a run that is still at work: in the ledger and at Segmind, and not in the warehouse
    lab.run(MODELS[0], partition=lab.write("later", 1))
    import duckdb

    with duckdb.connect(str(lab.data / "segmind.duckdb")) as connection:
        connection.execute("DELETE FROM segmind_data.attempts WHERE prompt_set = 'later'")
    assert lab.run(*CHARGES).is_success
    assert set(compared(lab).values()) == {"SUCCEEDED"}
    assert lab.records("SELECT count(*) AS n FROM spend_unexplained") == [{"n": 0}]


@pytest.mark.parametrize(("days", "can_be_fetched"), [(1, True), (8, False)])
def test_paid_outputs_not_stored_are_reported_with_the_command_to_fetch_them(
    lab: DagsterLab, days: int, *, can_be_fetched: bool
) -> None:
    key = lab.write("fruit", 1)
    lab.run(MODELS[0], partition=key)
    with opened(lab.segmind.load()) as (ledger, _):
        sent = datetime.now(UTC) - timedelta(days=days)
        lost = {"state": "failed", "failure_kind": "bad_output", "submitted_at": sent}
        for table in (GENERATIONS, ATTEMPTS):
            ledger.write(lambda connection, table=table: connection.execute(update(table).values(**lost)))
    from segmind_dagster.source import build_source, load

    settings = lab.segmind.load()
    load(settings, build_source(settings, prompt_sets=None).with_resources(REALITY, "attempts"))
    assert compared(lab)["spend/not_held"] == "FAILED"
    (row,) = lab.records("SELECT * FROM spend_not_held")
    assert (row["can_be_fetched"], row["cost_usd"], row["prompt_set"]) == (can_be_fetched, lab.charged_usd, key)
    red = recorded(lab, "spend/not_held", CHECKS["spend/not_held"])
    assert red.severity == "ERROR"
    assert ("segmind-dagster collect" in red.said) is can_be_fetched
    assert f"${lab.charged_usd:.4f}" in red.said


def test_before_the_first_load_the_comparisons_are_empty_and_not_judged(lab: DagsterLab) -> None:
    assert set(compared(lab).values()) == {"SUCCEEDED"}
    for asset in SPEND:
        assert lab.records(f"SELECT count(*) AS n FROM {asset.replace('/', '_')}") == [{"n": 0}]
    said = recorded(lab, "spend/unexplained", "charges_explained").said
    assert said.startswith("Nothing was compared with Segmind's history: it has not been loaded.")


def test_without_the_history_the_ledger_alone_is_reported(lab: DagsterLab) -> None:
    lab.run(MODELS[0], partition=lab.write("fruit", 2))
    assert lab.run("segmind/credits").is_success
    with opened(lab.segmind.load()) as (ledger, _):
        both = {"generation_id": lab.generations()[0]["generation_id"]}
        ledger.write(
            lambda connection: connection.execute(update(ATTEMPTS).values(**both, attempt=ATTEMPTS.c.intent_at))
        )
    from segmind_dagster.source import build_source, load

    settings = lab.segmind.load()
    load(settings, build_source(settings, prompt_sets=None).with_resources(REALITY, "attempts"))
    assert compared(lab) == dict.fromkeys(CHECKS, "SUCCEEDED") | {"spend/paid_twice": "FAILED"}
    (row,) = lab.records("SELECT charges, excess_usd, cost_usd FROM spend_paid_twice")
    assert row["charges"] >= 2
    assert 0 < row["excess_usd"] < row["cost_usd"]
    told = account_totals(settings)
    assert told["paid twice by accident"] == f"${row['excess_usd']:.4f}"
    assert told["charged, by Segmind's history"] == told["the same requests, by our ledger"] == "not known"
    # there is a table without rows: nothing was found because nothing was compared
    assert told["charged by Segmind, not in our ledger"] == "not known"


def test_one_comparison_alone_answers_its_own_check_and_no_other(lab: DagsterLab) -> None:
    run = lab.run("spend/runway")
    assert run.materialized() == {("spend/runway", None)}
    assert recorded(lab, "spend/runway", "balance_lasts").status == "SUCCEEDED"
    assert not [row for row in lab.records("SHOW TABLES") if row["name"] == "spend_balance"]


def test_a_check_alone_reads_the_last_comparison(lab: DagsterLab) -> None:
    assert lab.run("segmind/credits", "spend/runway").is_success
    before = recorded(lab, "spend/runway", "balance_lasts")
    assert run_checks(lab, ("spend/runway", "balance_lasts"))
    again = recorded(lab, "spend/runway", "balance_lasts")
    assert (again.status, again.said) == ("SUCCEEDED", before.said)
    assert again.run_id != before.run_id


def test_a_top_up_is_reported_without_alarm(lab: DagsterLab) -> None:
    lab.run(MODELS[0], partition=lab.write("fruit", 1))
    assert lab.run(*CHARGES).is_success
    lab.server.add_credits(Decimal(25))
    assert lab.run(*CHARGES).is_success
    assert compared(lab)["spend/balance"] == "SUCCEEDED"
    (row,) = lab.records("SELECT decrease_usd, difference_usd, verdict FROM spend_balance")
    assert (row["decrease_usd"], row["difference_usd"]) == (-25, 25)
    assert row["verdict"] in {"topped up", "too early to tell"}


def test_the_account_shows_its_money_and_what_changed(lab: DagsterLab) -> None:
    lab.run(MODELS[0], partition=lab.write("fruit", 1))
    run = lab.run(*ACCOUNT)
    assert run.figures("segmind/credits")["balance (USD)"] == float(Decimal(lab.server.account()["balance_usd"]))
    assert run.figures("segmind/credits")["runway (days)"] == "not known"
    assert run.figures("segmind/request_history")["charged (USD)"] == float(lab.charged_usd)
    assert run.figures("segmind/models_page_rows")["models on the page"] > 400
    assert recorded(lab, "segmind/models_page_rows", "page_understood").status == "SUCCEEDED"
    assert "slug" in run.figures("segmind/model_changes")["latest changes"]
