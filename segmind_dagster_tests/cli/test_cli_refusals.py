from typing import Any

import pytest
from command_line import run

KEY = "SG_0123456789abcdef"


def test_reload_of_another_origins_data_folder_is_one_clear_message(project: Any, monkeypatch: Any) -> None:
    project.generate(project.write("fruit", 1))
    monkeypatch.setenv("SEGMIND_API_URL", "https://api.segmind.com")
    monkeypatch.delenv("SEGMIND_UNKNOWN_SETTLE_SECONDS")
    message = run("reload").refusal()
    assert project.server.url in message


def test_collect_with_a_wrong_key_says_so_and_does_not_look_like_success(project: Any, monkeypatch: Any) -> None:
    project.write("harvest", 1, models=["fast_flux_schnell"])
    project.submit_and_die("harvest")
    monkeypatch.setenv("SEGMIND_API_KEY", KEY)
    answer = run("collect")
    assert answer.code == 1
    assert "Check SEGMIND_API_KEY" in answer.err


@pytest.mark.parametrize("others", [[], ["fruit"]])
def test_plan_all_names_files_that_cannot_be_sets(project: Any, others: Any) -> None:
    for key in others:
        project.write(key)
    (project.folder / "prompts" / "Red Fruit.yaml").write_text("prompts: [a pear]")
    answer = run("plan", "--all")
    assert answer.code == 1
    assert "Red Fruit.yaml" in answer.err


@pytest.mark.parametrize("options", [("--credits", "plenty"), ("--port", "99999")])
def test_a_number_of_the_sandbox_that_makes_no_sense_is_a_usage_error(options: Any) -> None:
    answer = run("sandbox", *options)
    assert answer.code == 2


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
