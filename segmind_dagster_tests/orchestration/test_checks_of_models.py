"""The checks of the model assets tell the truth: red while something is wrong, green once it is mended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab.checks import recorded, run_checks
from lab.project import FLUX, REALITY, STICKER
from sqlalchemy import insert

from segmind_dagster.data_folder import opened
from segmind_dagster.ledger.schema import ATTEMPTS
from segmind_dagster.sandbox import Faults, ScriptedFault

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.dagster_project import DagsterLab

ASSET = f"segmind/{REALITY}"
OF_SETS = ("all_stored", "files_match", "spend_under_budget", "charged_once")


def test_after_a_good_run_every_check_is_green_on_its_partition(lab: DagsterLab) -> None:
    key = lab.write("fruit", 3, budget_usd=1)
    run = lab.run(ASSET, partition=key)
    assert run.is_success, run.errors()
    for check in OF_SETS:
        found = recorded(lab, ASSET, check, key)
        assert (found.status, found.run_id, found.is_current) == ("SUCCEEDED", run.run_id, True), found
    waiting = recorded(lab, ASSET, "nothing_about_to_expire")
    assert (waiting.status, waiting.run_id) == ("SUCCEEDED", run.run_id)
    assert recorded(lab, ASSET, "all_stored", key).said == "3 of 3 generations are stored; nothing failed."
    assert recorded(lab, ASSET, "files_match", key).figures["content compared"] == 3
    money = recorded(lab, ASSET, "spend_under_budget", key).figures
    assert money["used by the set (USD)"] == money["of it by this model (USD)"] == float(lab.charged_usd)
    assert money["left (USD)"] == float(1 - lab.charged_usd)


def test_a_failure_that_can_be_tried_again_is_a_warning_and_green_after_the_retry(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["server_error"] * 3))
    lab.publish_short_latencies()
    key = lab.write("fruit", ["a fig"])
    assert lab.run(ASSET, partition=key).is_success
    red = recorded(lab, ASSET, "all_stored", key)
    assert (red.status, red.severity, red.is_current) == ("FAILED", "WARN", True)
    assert red.said.startswith("0 of 1 generations are stored; 1 failed and can be tried again.")
    assert "server_error (1): Segmind had a problem" in red.said
    assert "materialize 'fruit' now" in red.said
    assert red.figures["failed and can be tried again"] == 1
    assert [(row["prompt"], row["kind"], row["runs"]) for row in red.sample] == [("a fig", "server_error", 1)]
    assert lab.run(ASSET, partition=key).is_success
    assert recorded(lab, ASSET, "all_stored", key).status == "SUCCEEDED"


def test_many_permanent_failures_are_an_error_with_the_exact_count_and_a_short_sample(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["invalid"] * 7))
    key = lab.write("fruit", 9)
    assert lab.run(ASSET, partition=key).is_success
    red = recorded(lab, ASSET, "all_stored", key)
    assert (red.status, red.severity) == ("FAILED", "ERROR")
    assert red.said.startswith("2 of 9 generations are stored; 7 failed for good.")
    assert "invalid_request (7): Correct the prompt set" in red.said
    assert "The table shows 5 of 7" in red.said
    assert len(red.sample) == 5
    for check in ("files_match", "spend_under_budget", "charged_once"):
        assert recorded(lab, ASSET, check, key).status == "SUCCEEDED"


def test_paid_refused_outputs_are_shown_with_their_file(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["undecodable"]))
    key = lab.write("fruit", ["a fig"])
    assert lab.run(ASSET, partition=key).is_success
    red = recorded(lab, ASSET, "all_stored", key)
    assert (red.status, red.severity) == ("FAILED", "WARN")
    (row,) = red.sample
    assert Path(row["file"]).read_bytes()
    assert row["file"] in red.said
    assert red.figures["of these with a file in quarantine"] == 1
    assert red.figures["paid for and not usable (USD)"] > 0


def test_a_failed_run_still_reports_unfinished_generations(open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = open_lab(faults=Faults(script=[ScriptedFault(kind=None), "no_credits"]), fixed_latency_s=0.0)
    monkeypatch.setenv("SEGMIND_MAX_IN_FLIGHT", "1")
    key = lab.write("fruit", 3)
    run = lab.run(ASSET, partition=key)
    assert "Top up" in run.failure()
    red = recorded(lab, ASSET, "all_stored", key)
    assert (red.status, red.severity, red.run_id) == ("FAILED", "WARN", run.run_id)
    assert red.said.startswith("1 of 3 generations are stored; 2 not bought yet.")
    assert "no_credits (1): Top up the account" in red.said
    for check in ("files_match", "spend_under_budget", "charged_once"):
        assert recorded(lab, ASSET, check, key).status == "SUCCEEDED"
    assert recorded(lab, ASSET, "nothing_about_to_expire").run_id == run.run_id
    assert lab.run(ASSET, partition=key).is_success
    assert recorded(lab, ASSET, "all_stored", key).status == "SUCCEEDED"


def test_a_run_that_fails_again_turns_the_green_of_an_earlier_materialization_red(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = open_lab(faults=Faults(script=[ScriptedFault(kind=None), "no_credits"]), fixed_latency_s=0.0)
    key = lab.write("fruit", ["a fig"])
    assert lab.run(ASSET, partition=key).is_success
    lab.write("fruit", ["a fig", "a pear"])
    assert not lab.run(ASSET, partition=key).is_success
    red = recorded(lab, ASSET, "all_stored", key)
    assert (red.status, red.is_current) == ("FAILED", True)


def test_in_a_run_of_many_each_partition_has_its_result_and_one_names_those_that_fail(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["invalid"]), fixed_latency_s=0.0)
    for key in ("apple", "fig", "pear"):
        lab.write(key, 1)
    run = lab.run_range("apple", "pear", ASSET)
    assert run.is_success, run.errors()
    by_key = {key: recorded(lab, ASSET, "all_stored", key) for key in ("apple", "fig", "pear")}
    assert sorted(found.status for found in by_key.values()) == ["FAILED", "SUCCEEDED", "SUCCEEDED"]
    assert {(found.run_id, found.is_current) for found in by_key.values()} == {(run.run_id, True)}
    (bad,) = [key for key, found in by_key.items() if found.status == "FAILED"]
    whole = recorded(lab, ASSET, "all_stored")
    assert (whole.status, whole.severity) == ("FAILED", "ERROR")
    assert whole.said == f"1 of 3 prompt sets do not pass: {bad}."
    assert whole.sample[0]["prompt set"] == bad
    assert lab.run(ASSET, partition=bad).is_success
    assert recorded(lab, ASSET, "all_stored", bad).status == "SUCCEEDED"


def test_a_missing_or_changed_file_is_red_until_it_is_back(lab: DagsterLab) -> None:
    key = lab.write("fruit", 3)
    lab.run(ASSET, partition=key)
    first, second, _ = (Path(row["output_uri"]) for row in lab.generations())
    kept = first.read_bytes(), second.read_bytes()
    first.unlink()
    second.write_bytes(kept[1][:-1] + bytes([kept[1][-1] ^ 1]))
    assert run_checks(lab, (ASSET, "files_match"), partition=key)
    red = recorded(lab, ASSET, "files_match", key)
    assert (red.status, red.severity, red.is_current) == ("FAILED", "ERROR", True)
    assert red.said.startswith("2 of 3 stored outputs are not what was paid for: 1 missing, 1 other content")
    assert {row["output"] for row in red.sample} == {str(first), str(second)}
    first.write_bytes(kept[0])
    second.write_bytes(kept[1])
    assert run_checks(lab, (ASSET, "files_match"), partition=key)
    assert recorded(lab, ASSET, "files_match", key).status == "SUCCEEDED"
    assert lab.posts == 3


def test_four_fifths_of_the_budget_are_a_warning(lab: DagsterLab) -> None:
    key = lab.write("fruit", 2)
    lab.run(ASSET, partition=key)
    for budget_usd, status, words in (
        (lab.charged_usd / 2, "FAILED", "too much"),
        (lab.charged_usd * 10 / 9, "FAILED", "(90%)"),
        (lab.charged_usd * 2, "SUCCEEDED", "(50%)"),
    ):
        lab.write("fruit", 2, budget_usd=f"{budget_usd:.6f}")
        assert run_checks(lab, (ASSET, "spend_under_budget"), partition=key)
        found = recorded(lab, ASSET, "spend_under_budget", key)
        assert found.status == status
        assert words in found.said


def test_a_second_charge_for_one_generation_is_an_error_with_the_money(lab: DagsterLab) -> None:
    key = lab.write("fruit", 2)
    lab.run(ASSET, partition=key)
    attempt = lab.attempts()[0]
    with opened(lab.segmind.load()) as (ledger, _):
        again = {**attempt, "attempt": 2, "request_id": "another"}
        ledger.write(lambda connection: connection.execute(insert(ATTEMPTS), again))
    assert run_checks(lab, (ASSET, "charged_once"), partition=key)
    red = recorded(lab, ASSET, "charged_once", key)
    assert (red.status, red.severity) == ("FAILED", "ERROR")
    assert red.figures["paid too much (USD)"] == float(attempt["cost_usd"])
    assert [row["generation_id"] for row in red.sample] == [attempt["generation_id"]]


def test_a_partition_whose_file_is_gone_is_still_checked(lab: DagsterLab) -> None:
    key = lab.write("fruit", 2)
    lab.run(ASSET, partition=key)
    (lab.prompts / "fruit.yaml").unlink()
    assert run_checks(lab, *((ASSET, check) for check in OF_SETS), partition=key)
    for check in OF_SETS:
        assert recorded(lab, ASSET, check, key).status == "SUCCEEDED"
    assert "its file cannot be read" in recorded(lab, ASSET, "spend_under_budget", key).said


def test_with_an_empty_ledger_every_check_is_green(lab: DagsterLab) -> None:
    key = lab.write("fruit", 2)
    checks = [(f"segmind/{name}", check) for name in (REALITY, STICKER) for check in OF_SETS]
    assert run_checks(lab, *checks, partition=key)
    assert {recorded(lab, *check, key).status for check in checks} == {"SUCCEEDED"}
    assert recorded(lab, ASSET, "all_stored", key).said == "Nothing has been asked of this model yet."
    assert run_checks(lab, (ASSET, "nothing_about_to_expire"))
    assert recorded(lab, ASSET, "nothing_about_to_expire").figures["waiting at Segmind"] == 0


def test_checks_need_neither_key_nor_network_nor_the_warehouse(
    lab: DagsterLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = lab.write("fruit", 1)
    lab.run(ASSET, partition=key)
    lab.server.stop()
    monkeypatch.delenv("SEGMIND_API_KEY")
    (lab.data / "segmind.duckdb").rename(lab.data / "elsewhere.duckdb")
    assert run_checks(lab, *((ASSET, check) for check in OF_SETS), partition=key)
    assert {recorded(lab, ASSET, check, key).status for check in OF_SETS} == {"SUCCEEDED"}


def test_a_run_for_no_partition_checks_every_prompt_set(lab: DagsterLab) -> None:
    for key in ("apple", "pear"):
        lab.run(ASSET, partition=lab.write(key, 1))
    assert run_checks(lab, (ASSET, "charged_once"))
    assert recorded(lab, ASSET, "charged_once").said == "All 2 prompt sets pass."


def test_only_the_checks_of_the_models_selected_run(lab: DagsterLab) -> None:
    key = lab.write("fruit", 1, models=[REALITY, FLUX])
    lab.run(ASSET, partition=key)
    with pytest.raises(StopIteration):
        recorded(lab, f"segmind/{FLUX}", "charged_once", key)


def test_a_run_logs_nothing_that_looks_like_a_forgotten_check(lab: DagsterLab) -> None:
    run = lab.run(ASSET, partition=lab.write("fruit", 1))
    said = [entry.user_message for entry in lab.instance.all_logs(run.run_id)]
    assert run.is_success
    assert [message for message in said if "did not yield or return" in message] == []
