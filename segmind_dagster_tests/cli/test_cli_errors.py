"""What goes wrong is one red message that says what to do, and exit code 1: never a stack trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab.cli_project import run

from segmind_dagster.cli import main

if TYPE_CHECKING:
    from lab.cli_project import Project

KEY = "SG_0123456789abcdef"


def test_no_key_names_both_ways_to_give_one_and_the_sandbox(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    message = run("collect").refusal()
    assert message.startswith("SEGMIND_API_KEY: no API key is set.")
    for words in ("Export SEGMIND_API_KEY", ".dlt/secrets.toml", "segmind-dagster sandbox"):
        assert words in message
    assert "\n" not in message


def test_an_unknown_set_names_those_that_exist(project: Project) -> None:
    project.write("fruit")
    message = run("plan", "fruits").refusal()
    assert "'fruits'" in message
    assert "Did you mean 'fruit'?" in message


def test_a_bad_prompt_file_is_named_with_every_problem(project: Project) -> None:
    project.write("fruit", ["a pear"], sampels=2, budgit_usd=1)
    message = run("plan", "fruit").refusal()
    assert message.startswith("2 problems in the prompt files; nothing was submitted:")
    assert "sampels" in message
    assert "budgit_usd" in message


@pytest.mark.parametrize("command", [("plan", "--all"), ("sync",)])
def test_a_missing_prompts_folder_is_named(project: Project, command: tuple[str, ...]) -> None:
    (project.folder / "prompts").rmdir()
    message = run(*command).refusal()
    assert str(project.folder / "prompts") in message
    assert "SEGMIND_PROMPTS_DIR" in message


@pytest.mark.parametrize("name", ["config.toml", "secrets.toml"])
@pytest.mark.parametrize("command", [("plan", "fruit"), ("status",), ("collect",), ("reload",), ("sync",)])
def test_toml_that_cannot_be_read_names_its_file(project: Project, name: str, command: tuple[str, ...]) -> None:
    project.write("fruit")
    (project.folder / ".dlt" / name).write_text("[sources.segmind\n")
    message = run(*command).refusal()
    assert message.startswith(f".dlt/{name}: the file is not valid TOML")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SEGMIND_REQUESTS_PER_MINUTE", "fast"),
        ("SEGMIND_MAX_IN_FLIGHT", "2.5"),
        ("SEGMIND_DAILY_BUDGET_USD", "-1"),
        ("SEGMIND_API_URL", "http://example.com"),
        ("SEGMIND_PROJECT_DIR", "/nowhere/at/all"),
        ("SEGMIND_API_KEY", "a key"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    message = run("status").refusal()
    assert message.startswith(f"{variable}: ")
    assert "\n" not in message


@pytest.mark.parametrize("command", [("plan", "fruit"), ("status",), ("collect",)])
def test_a_data_folder_of_another_origin_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    project.generate(project.write("fruit", 1))
    monkeypatch.setenv("SEGMIND_API_URL", "https://api.segmind.com")
    monkeypatch.delenv("SEGMIND_UNKNOWN_SETTLE_SECONDS")
    monkeypatch.setenv("SEGMIND_API_KEY", KEY)
    message = run(*command).refusal()
    for words in (project.server.url, "https://api.segmind.com", "SEGMIND_DATA_DIR"):
        assert words in message
    assert KEY not in message


def test_an_empty_ledger_beside_outputs_stops_with_the_way_out(project: Project) -> None:
    project.generate(project.write("fruit", 1))
    for path in project.data.glob("ledger.sqlite*"):
        path.unlink()
    message = run("status").refusal()
    assert "could pay for them again" in message
    assert "segmind-dagster rebuild" in message


def test_a_file_that_is_not_a_ledger_is_refused_and_kept(project: Project) -> None:
    project.data.mkdir()
    (project.data / "ledger.sqlite").write_bytes(b"not a database at all" * 100)
    message = run("status").refusal()
    assert "ledger.sqlite" in message
    assert (project.data / "ledger.sqlite").read_bytes().startswith(b"not a database")


def test_a_data_folder_that_is_a_file_is_one_clear_message(project: Project) -> None:
    project.data.write_text("not a folder")
    assert str(project.data) in run("status").refusal()


def test_a_wrong_key_buys_nothing_and_is_not_shown(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("harvest", 1, models=["fast_flux_schnell"])
    project.submit_and_die("harvest")
    monkeypatch.setenv("SEGMIND_API_KEY", KEY)
    answer = run("collect")
    assert KEY not in answer.out + answer.err
    assert "Traceback" not in answer.err
    assert project.posts == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--speed", "0"), "--speed"),
        (("--fault", "server_error"), "KIND=RATE"),
        (("--fault", "server_error=often"), "KIND=RATE"),
        (("--port", "http"), "not a valid integer"),
    ],
)
def test_an_invalid_sandbox_option_is_a_usage_error(options: tuple[str, ...], words: str) -> None:
    answer = run("sandbox", *options)
    assert answer.code == 2
    assert words in answer.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--fault", "bad_weather=0.5"), "'bad_weather' is not a fault; there are: "),
        (("--fault", "server_error=1.5"), "must lie between 0 and 1"),
    ],
)
def test_an_unknown_fault_is_refused_with_the_existing_ones(options: tuple[str, ...], words: str) -> None:
    assert words in run("sandbox", *options).refusal()


def test_a_taken_port_of_the_sandbox_is_one_clear_message(project: Project) -> None:
    port = project.server.url.rpartition(":")[2]
    assert f"port {port} on 127.0.0.1 is in use" in run("sandbox", "--port", port).refusal()


def test_errors_are_plain_text_without_a_terminal(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    monkeypatch.setattr("sys.argv", ["segmind-dagster", "collect"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capfd.readouterr().err.startswith("SEGMIND_API_KEY: ")
