from typing import Any

import pytest
from lab.cli_project import run

from segmind_dagster.gateway import repeating

KEY = "SG_0123456789abcdef"


def test_reload_of_another_origins_data_folder_is_one_clear_message(project: Any, monkeypatch: Any) -> None:
    project.generate(project.write("fruit", 1))
    monkeypatch.setenv("SEGMIND_API_URL", "https://api.segmind.com")
    monkeypatch.delenv("SEGMIND_UNKNOWN_SETTLE_SECONDS")
    message = run("reload").refusal()
    assert project.server.url in message


def test_collect_with_a_wrong_key_fails_with_a_message(project: Any, monkeypatch: Any) -> None:
    project.write("harvest", 1, models=["fast_flux_schnell"])
    project.submit_and_die("harvest")
    monkeypatch.setenv("SEGMIND_API_KEY", KEY)
    answer = run("collect")
    assert answer.code == 1
    assert "Check SEGMIND_API_KEY" in answer.err


def test_collect_with_an_unreachable_provider_is_one_message_and_changes_nothing(
    project: Any, monkeypatch: Any
) -> None:
    asked: list[int] = []

    def pause(state: Any) -> float:
        asked.append(state.attempt_number)
        return 0.0

    monkeypatch.setattr(repeating, "_BACK_OFF", pause)
    project.write("harvest", 2, models=["fast_flux_schnell"])
    project.submit_and_die("harvest")
    project.lose("lost", 2)
    before = project.ledger_dump()
    project.server.stop()
    message = run("collect").refusal()
    assert message.count(project.server.url) == 1
    assert "Check the network and SEGMIND_API_URL" in message
    assert "\n" not in message
    # one question, however many there are to fetch
    assert len(asked) == 4
    assert project.ledger_dump() == before


@pytest.mark.parametrize("others", [[], ["fruit"]])
def test_plan_all_names_files_that_cannot_be_sets(project: Any, others: Any) -> None:
    for key in others:
        project.write(key)
    (project.folder / "prompts" / "Red Fruit.yaml").write_text("prompts: [a pear]")
    answer = run("plan", "--all")
    assert answer.code == 1
    assert "Red Fruit.yaml" in answer.err


@pytest.mark.parametrize("options", [("--credits", "plenty"), ("--port", "99999")])
def test_an_invalid_sandbox_number_is_a_usage_error(options: Any) -> None:
    answer = run("sandbox", *options)
    assert answer.code == 2


@pytest.mark.parametrize("home", ["{folder}/nowhere", "relative/home"])
def test_sync_with_a_dagster_home_that_is_no_folder_says_what_to_do(
    project: Any, monkeypatch: Any, tmp_path: Any, home: str
) -> None:
    home = home.format(folder=tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", home)
    message = run("sync").refusal()
    assert message.startswith(f"DAGSTER_HOME: '{home}' is not the absolute path of a folder that exists")
    assert "mkdir -p" in message


def test_status_leaves_out_what_was_planned_and_is_no_longer_asked_for(project: Any) -> None:
    from segmind_dagster.data_folder import opened
    from segmind_dagster.ledger.schema import GENERATIONS, SET_GENERATIONS
    from segmind_dagster.settings import load_settings

    project.write("harvest", 1, models=["fast_flux_schnell"])
    project.submit_and_die("harvest")
    with opened(load_settings()) as (ledger, _):
        ledger.write(lambda connection: connection.execute(GENERATIONS.update().values(state="planned")))
    assert "planned            1" in run("status").out
    with opened(load_settings()) as (ledger, _):
        ledger.write(lambda connection: connection.execute(SET_GENERATIONS.update().values(is_current=False)))
    assert "planned" not in run("status").out


def test_sync_uses_the_dagster_home_that_is_set(project: Any, monkeypatch: Any, tmp_path: Any) -> None:
    import dagster as dg

    home = tmp_path / "own_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    project.write("apple")
    assert run("sync").code == 0
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_dynamic_partitions("prompt_sets") == ["apple"]
