"""The commands do what they say, and spend nothing they do not announce."""

from __future__ import annotations

import re
from decimal import Decimal
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from lab.cli_project import run
from lab.project import FLUX, REALITY
from sqlalchemy import select, update

from segmind_dagster import cli
from segmind_dagster.data_folder import opened
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from lab.cli_project import Project


def columns(line: str) -> list[str]:
    return line.split()


def test_the_console_script_is_this_module() -> None:
    (script,) = entry_points(group="console_scripts", name="segmind-dagster")
    assert script.load() is cli.main


def test_plan_says_what_is_to_buy_and_what_that_costs_without_buying(project: Project) -> None:
    answer = run("plan", project.write("fruit", 4))
    assert (answer.code, answer.err) == (0, "")
    head, name, row, together = answer.out.splitlines()
    assert columns(head)[3:] == ["buy", "owned", "busy", "low", "expected", "high", "time"]
    assert (name, columns(row)[:4]) == ("fruit", [REALITY, "4", "0", "0"])
    low, expected, high = (Decimal(figure) for figure in re.findall(r"\$([\d.]+)", row))
    assert 0 < low < expected < high
    assert together == f"Together: about ${expected:.4f}, between ${low:.4f} and ${high:.4f}."
    assert project.posts == 0


def test_plan_works_without_a_key(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    assert run("plan", project.write("fruit")).code == 0


def test_plan_knows_stored_outputs(project: Project) -> None:
    project.generate(project.write("fruit", 2))
    answer = run("plan", project.write("fruit", 5))
    assert columns(answer.out.splitlines()[2])[:4] == [REALITY, "3", "2", "0"]


def test_plan_all_sums_every_set_and_model(project: Project) -> None:
    project.write("apple", 1)
    project.write("pear", 2, models=[REALITY, FLUX])
    answer = run("plan", "--all")
    lines = answer.out.splitlines()[1:-1]
    assert [columns(line)[:2] for line in lines] == [["apple"], [REALITY, "1"], ["pear"], [FLUX, "2"], [REALITY, "2"]]
    rows = [line for line in lines if line.startswith("  ")]
    most = sum(Decimal(re.findall(r"\$([\d.]+)", row)[2]) for row in rows)
    (shown,) = re.findall(r"and \$([\d.]+)\.", answer.out.splitlines()[-1])
    assert abs(Decimal(shown) - most) <= Decimal("0.0001") * len(rows)


def test_plan_shows_a_refusal_beside_the_figures(project: Project) -> None:
    answer = run("plan", project.write("fruit", 4, budget_usd=0.001))
    assert answer.code == 1
    assert "fruit" in answer.out
    assert answer.coloured_err.startswith("\x1b[33mNothing was submitted. The set cap of $0.001 stands in the way")


def test_plan_all_prices_a_backfill_of_which_each_run_has_a_cap_of_its_own(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("apple", 2)
    project.write("pear", 2)
    monkeypatch.setenv("SEGMIND_RUN_BUDGET_USD", "0.03")
    assert (run("plan", "--all").code, run("plan", "--all").err) == (0, "")
    project.write("pear", 4)
    refused = run("plan", "--all")
    assert refused.code == 1
    assert "The run cap of $0.03" in refused.err
    assert "'pear'" in refused.err
    assert "'apple'" not in refused.err


def test_plan_says_when_the_day_cap_is_too_low(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMIND_DAILY_BUDGET_USD", "0.02")
    answer = run("plan", project.write("fruit", 4))
    assert answer.code == 0
    assert "more than today's cap: $0.0000 of $0.02 is used" in answer.err
    assert "resumes tomorrow" in answer.err


def test_plan_shows_an_unknown_price_as_unknown(project: Project) -> None:
    answer = run("plan", project.write("fruit", 3, models=["consistent_character_neolemon_v2"]))
    *_, name, figures, together = answer.out.splitlines()
    assert name.strip() == "consistent_character_neolemon_v2"
    assert columns(figures) == ["3", "0", "0", *["unknown"] * 4]
    assert together == (
        "Together: nobody knows how much for 3 generations of unknown price (consistent_character_neolemon_v2); "
        "without a `max_unit_cost_usd` none of it is bought."
    )
    assert "max_unit_cost_usd" in answer.err


def test_plan_all_keeps_the_limit_of_an_unknown_price_out_of_the_expected_figure(project: Project) -> None:
    project.write("apple", 2)
    known = run("plan", "--all").out.splitlines()[-1]
    project.write("hero", 3, models=["consistent_character_neolemon_v2"], max_unit_cost_usd=0.5)
    answer = run("plan", "--all")
    assert answer.code == 0
    *_, row, first, second = answer.out.splitlines()
    assert columns(row)[3:] == ["unknown"] * 4
    assert max(map(len, answer.out.splitlines()[:-2])) <= 80
    assert first == known
    assert second == (
        "Besides: at most $1.5000 more for 3 generations of unknown price (consistent_character_neolemon_v2), going by "
        "`max_unit_cost_usd`."
    )


def test_plan_all_says_what_several_sets_ask_for_and_only_one_buys(project: Project) -> None:
    project.write("apple", ["a pear", "a plum"])
    project.write("pear", ["a plum", "a fig", "a pear"])
    *_, both = run("plan", "--all").out.splitlines()
    assert both.startswith("It holds 2 generations (about $")
    assert both.endswith("more than will be bought: several sets ask for the same, and one pays.")


def test_plan_without_a_set_says_how_to_name_one(project: Project) -> None:
    answer = run("plan")
    assert answer.code == 2
    assert "Name prompt sets, or give --all." in answer.err


def test_status_of_a_fresh_project_is_nothing_at_all(project: Project) -> None:
    answer = run("status")
    assert (answer.code, answer.err) == (0, "")
    first, *rest = answer.out.splitlines()
    assert first == f"{project.server.url}, data in {project.data}"
    assert rest[0].startswith("  Nothing here yet: `segmind-dagster plan --all`")
    assert "charged" not in answer.out


def test_status_counts_by_state_and_knows_every_cent(project: Project) -> None:
    project.generate(project.write("fruit", 3))
    paid_usd = project.charged_usd
    project.write("harvest", 2, models=[FLUX])
    project.submit_and_die("harvest")
    answer = run("status")
    states = {columns(line)[0]: columns(line)[1:] for line in answer.out.splitlines()[1:-2]}
    assert states == {"succeeded": ["3", f"${paid_usd:.4f}"], "submitted": ["2", "cost", "not", "known"]}
    assert f"charged over all attempts: ${paid_usd:.6f}" in answer.out
    assert "sent, outcome not known yet: may have been charged as well, up to $0.020000" in answer.out


def test_status_shows_what_is_in_quarantine_with_its_money(project: Project) -> None:
    project.generate(project.write("fruit", 1))
    with opened(load_settings()) as (ledger, outputs):
        generation_id = ledger.read(lambda connection: connection.execute(select(GENERATIONS.c.generation_id)).scalar())
        path = outputs.scratch_file("refused")
        path.write_bytes(b"x" * 1500)
        outputs.quarantine.put(path, resource=REALITY, generation_id=generation_id, attempt=1, sidecar={})
        folder = outputs.quarantine.url
    said = run("status").out
    assert f"quarantine: 1 refused file, 1.5 kB, paid for with ${project.charged_usd:.6f}, in {folder}" in said
    assert "`segmind-dagster collect` fetches them again, free of charge" in said
    assert "resolve GENERATION --buy-again" in said


def test_buying_again_reports_the_paid_cost_and_marks_the_next_charge_as_wanted(project: Project) -> None:
    project.generate(project.write("fruit", 1))
    with opened(load_settings()) as (ledger, _):
        spoilt = update(GENERATIONS).values(state="failed", failure_kind="bad_output", output_uri=None)
        ledger.write(lambda connection: connection.execute(spoilt))
        ledger.write(lambda connection: connection.execute(update(ATTEMPTS).values(state="failed")))
        generation_id = ledger.read(lambda connection: connection.execute(select(GENERATIONS.c.generation_id)).scalar())
    answer = run("resolve", generation_id, "--buy-again")
    assert (answer.code, answer.err) == (0, "")
    assert f"is written off, after ${project.charged_usd:.4f} was paid for it; the next run of 'fruit'" in answer.out
    assert "bought again by decision" in answer.out
    again = run("resolve", generation_id, "--buy-again")
    assert (again.code, again.out) == (1, "")
    assert "No paid and unusable generations" in again.err


def test_status_counts_unknown_costs_beside_the_known_sum(project: Project) -> None:
    project.generate(project.write("fruit", 3))
    with opened(load_settings()) as (ledger, _):
        _, *priced = ledger.read(lambda connection: connection.execute(select(GENERATIONS)).all())
        without_price = update(GENERATIONS).where(GENERATIONS.c.generation_id.not_in([row[0] for row in priced]))
        ledger.write(lambda connection: connection.execute(without_price.values(cost_usd=None)))
    known_usd = sum((row.cost_usd for row in priced), Decimal(0))
    assert f"succeeded          3  ${known_usd:.4f}, and 1 of unknown cost" in run("status").out


def test_collect_fetches_what_was_paid_for_and_buys_nothing(project: Project) -> None:
    project.write("harvest", 2, models=[FLUX])
    project.submit_and_die("harvest")
    # even when the set's file is gone
    (project.folder / "prompts" / "harvest.yaml").unlink()
    posts = project.posts
    answer = run("collect")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[-2].startswith(f"2 fetched, worth ${project.charged_usd:.4f}, ")
    assert answer.out.splitlines()[-1] == "Nothing was bought."
    assert len(list((project.data / "outputs" / FLUX).glob("*.jpg"))) == 2
    assert project.posts == posts == 2
    assert f"${project.charged_usd:.6f}" in run("status").out


def test_collect_with_nothing_to_collect_says_so(project: Project) -> None:
    answer = run("collect")
    assert (answer.code, answer.out) == (0, "Nothing to collect.\n")


def test_reload_brings_a_lost_warehouse_back_from_the_ledger(project: Project) -> None:
    project.generate(project.write("fruit", 3), project.write("harvest", 1))
    for _ in range(2):
        answer = run("reload")
        assert answer.code == 0, answer.err
        assert "no failed jobs" in answer.out
        assert project.rows(f"SELECT count(*), sum(cost_usd) FROM {REALITY}") == [(4, project.charged_usd)]
        assert project.rows("SELECT count(*), sum(cost_usd) FROM attempts") == [(4, project.charged_usd)]
        (project.data / "segmind.duckdb").unlink()
    assert project.posts == 4


def test_reload_needs_no_key(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.generate(project.write("fruit", 1))
    monkeypatch.delenv("SEGMIND_API_KEY")
    assert run("reload").code == 0


def test_sync_updates_the_partitions(project: Project) -> None:
    def partitions() -> set[str]:
        with dg.DagsterInstance.from_config(str(project.data / "dagster_home")) as instance:
            return set(instance.get_dynamic_partitions("prompt_sets"))

    project.write("apple")
    project.write("pear")
    answer = run("sync")
    assert (answer.code, answer.out) == (0, "Added: apple, pear. Removed: none.\n")
    assert partitions() == {"apple", "pear"}
    (project.folder / "prompts" / "apple.yaml").unlink()
    (project.folder / "prompts" / "Red Fruit.yaml").write_text("prompts: [a pear]")
    answer = run("sync")
    assert (answer.code, answer.out) == (1, "Added: none. Removed: apple.\n")
    assert answer.coloured_err.startswith("\x1b[31mRed Fruit.yaml: ")
    assert partitions() == {"pear"}


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").out.startswith("segmind-dagster, version ")


@pytest.mark.parametrize("command", sorted(cli.cli.commands))
def test_every_command_explains_itself(command: str) -> None:
    answer = run(command, "-h")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: segmind-dagster {command} ")
    assert f"\n  {command} " in run("--help").out


def test_resolve_lists_adopts_and_declares_absent(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = project.lose("fruit", 2)
    listed = run("resolve")
    assert listed.code == 0
    told = [line.split()[0] for line in listed.out.splitlines() if not line.startswith(" ")]
    assert told == [first, second, "2"]
    assert "fruit number 0" in listed.out
    assert "fruit" in listed.out
    assert "sent 20" in listed.out
    monkeypatch.setenv("SEGMIND_UNKNOWN_SETTLE_SECONDS", "120")
    answer = run("resolve", first, "--absent")
    assert answer.code == 1
    assert "history may not list it yet" in answer.err
    assert "Try again in 1" in answer.err
    monkeypatch.setenv("SEGMIND_UNKNOWN_SETTLE_SECONDS", "0")
    answer = run("resolve", first, "--absent")
    assert (answer.code, answer.out) == (
        0, f"{first} counts as never sent; the next run of 'fruit' buys it.\n",
    )  # fmt: skip
    (job,) = [job for job in project.server.account()["jobs"] if job["body"]["prompt"] == "fruit number 1"]
    answer = run("resolve", second[:12], "--adopt", job["request_id"])
    assert answer.out == f"{second} is request {job['request_id']}. Fetch it with `segmind-dagster collect`.\n"
    assert run("resolve").out == "Nothing is unresolved.\n"
    assert "1 fetched" in run("collect").out


@pytest.mark.parametrize(
    "arguments", [["abc"], ["--absent"], ["--adopt", "r"], ["abc", "--absent", "--adopt", "r"]], ids=" ".join
)
def test_resolve_needs_a_generation_and_exactly_one_option(project: Project, arguments: list[str]) -> None:
    answer = run("resolve", *arguments)
    assert answer.code == 2
    assert "one of --adopt REQUEST, --absent and --buy-again" in answer.err


def test_rebuild_brings_a_lost_ledger_back_without_buying(project: Project) -> None:
    project.generate(project.write("fruit", 3))
    for file in project.data.glob("ledger.sqlite*"):
        file.unlink()
    assert "segmind-dagster rebuild" in run("status").refusal()
    answer = run("rebuild")
    assert (answer.code, answer.err) == (0, "")
    assert "3" in answer.out
    project.generate("fruit")
    assert project.posts == 3
    assert f"charged over all attempts: ${project.charged_usd:.6f}" in run("status").out
