"""Settings: which source wins, where paths start, and what is refused before it can cost anything."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.errors import SettingsError
from segmind_dagster.settings import SEGMIND_API_URL, SEGMIND_OUTPUT_HOSTS, Settings, find_project_dir, load_settings

if TYPE_CHECKING:
    from pathlib import Path

KEY = "SG_0123456789abcdef"
DEFAULTS = {
    "api_key": None,
    "api_url": "https://api.segmind.com",
    "platform_url": "https://api.spotprod.segmind.com",
    "storage_url": "https://workflows-api.segmind.com",
    "account": None,
    "destination": "duckdb",
    "requests_per_minute": 60.0,
    "max_in_flight": 1000,
    "run_budget_usd": Decimal(25),
    "daily_budget_usd": Decimal(100),
    "unknown_settle_seconds": 120.0,
    "v1_timeout_seconds": 600.0,
    "refresh_sets": (),
    "backfill": "runs",
}


class Project:
    """A project folder with `.dlt/`, read with an environment of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".dlt").mkdir(parents=True)

    def write(self, name: str, text: str) -> None:
        (self.folder / ".dlt" / name).write_text(text, encoding="utf-8")

    def load(self, environ: dict[str, str] | None = None, **overrides: Any) -> Settings:
        return load_settings(environ={"SEGMIND_PROJECT_DIR": str(self.folder), **(environ or {})}, **overrides)

    def refusal(self, environ: dict[str, str]) -> SettingsError:
        with pytest.raises(SettingsError) as raised:
            self.load(environ)
        return raised.value


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project((tmp_path / "project").resolve())


@pytest.mark.parametrize(("name", "expected"), DEFAULTS.items(), ids=DEFAULTS)
def test_without_any_setting_the_documented_default_holds(project: Project, name: str, expected: Any) -> None:
    assert getattr(project.load(), name) == expected


def test_by_default_everything_is_kept_in_the_data_folder_of_the_project(project: Project) -> None:
    settings = project.load()
    assert settings.prompts_dir == project.folder / "prompts"
    assert settings.data_dir == project.folder / "data"
    assert settings.outputs_url == str(project.folder / "data" / "outputs")
    assert settings.ledger_url == f"sqlite:///{project.folder}/data/ledger.sqlite"


SOURCES = ("argument", "environment", "dlt environment", "secrets.toml", "config.toml")


@pytest.mark.parametrize("highest", range(len(SOURCES)), ids=SOURCES)
def test_the_first_source_that_has_a_value_wins(project: Project, highest: int) -> None:
    has = set(SOURCES[highest:])
    environ = {}
    if "environment" in has:
        environ["SEGMIND_DESTINATION"] = "environment"
    if "dlt environment" in has:
        environ["SOURCES__SEGMIND__DESTINATION"] = "dlt environment"
    for file in has & {"secrets.toml", "config.toml"}:
        project.write(file, f'[sources.segmind]\ndestination = "{file}"\n')
    overrides = {"destination": "argument"} if "argument" in has else {}
    assert project.load(environ, **overrides).destination == SOURCES[highest]


@pytest.mark.parametrize(
    ("variable", "name", "given_text", "expected"),
    [
        ("SEGMIND_API_KEY", "api_key", KEY, KEY),
        ("SOURCES__SEGMIND__API_KEY", "api_key", KEY, KEY),
        ("SOURCES__SEGMIND_CONSISTENT_CHARACTER_AI_SOURCE__API_KEY", "api_key", KEY, KEY),
        ("SEGMIND_API_URL", "api_url", "http://127.0.0.1:8777", "http://127.0.0.1:8777"),
        ("SEGMIND_PLATFORM_URL", "platform_url", "https://platform.example", "https://platform.example"),
        ("SEGMIND_STORAGE_URL", "storage_url", "https://storage.example", "https://storage.example"),
        (
            "SEGMIND_OUTPUT_HOSTS",
            "output_hosts",
            " CDN.example, other.example ,",
            (*SEGMIND_OUTPUT_HOSTS, "cdn.example", "other.example"),
        ),
        ("SEGMIND_ACCOUNT", "account", "team-a", "team-a"),
        ("SEGMIND_OUTPUTS_URL", "outputs_url", "s3://bucket/outputs", "s3://bucket/outputs"),
        ("SEGMIND_LEDGER_URL", "ledger_url", "postgresql://db/ledger", "postgresql://db/ledger"),
        ("SEGMIND_DESTINATION", "destination", "bigquery", "bigquery"),
        ("SEGMIND_REQUESTS_PER_MINUTE", "requests_per_minute", "7.5", 7.5),
        ("SEGMIND_MAX_IN_FLIGHT", "max_in_flight", "50", 50),
        ("SEGMIND_RUN_BUDGET_USD", "run_budget_usd", "0.1", Decimal("0.1")),
        ("SEGMIND_DAILY_BUDGET_USD", "daily_budget_usd", "3", Decimal(3)),
        ("SEGMIND_UNKNOWN_SETTLE_SECONDS", "unknown_settle_seconds", "300", 300.0),
    ],
)
def test_a_variable_sets_its_field(project: Project, variable: str, name: str, given_text: str, expected: Any) -> None:
    assert getattr(project.load({variable: given_text}), name) == expected


def test_an_empty_variable_counts_as_not_given(project: Project) -> None:
    project.write("config.toml", '[sources.segmind]\ndestination = "postgres"\n')
    assert project.load({"SEGMIND_DESTINATION": "  "}).destination == "postgres"


def test_toml_values_may_be_numbers_and_lists(project: Project) -> None:
    project.write(
        "config.toml",
        '[sources.segmind]\nrun_budget_usd = 1.25\nmax_in_flight = 3\noutput_hosts = ["a.example", "b.example"]\n',
    )
    settings = project.load()
    assert (settings.run_budget_usd, settings.max_in_flight) == (Decimal("1.25"), 3)
    assert settings.output_hosts == (*SEGMIND_OUTPUT_HOSTS, "a.example", "b.example")


def test_the_section_named_in_the_seed_document_is_read_too(project: Project) -> None:
    project.write("secrets.toml", f'[sources.segmind_consistent_character_ai_source]\napi_key = "{KEY}"\n')
    assert project.load().require_api_key() == KEY


def test_the_section_segmind_wins_over_that_of_the_seed_document(project: Project) -> None:
    project.write(
        "secrets.toml",
        '[sources.segmind_consistent_character_ai_source]\napi_key = "SG_ffffffffffffffff"\n'
        f'[sources.segmind]\napi_key = "{KEY}"\n',
    )
    assert project.load().api_key == KEY


@pytest.mark.parametrize(
    "toml", ["", "sources = 3\n", "[sources]\nsegmind = 3\n", "[destination.duckdb]\ncredentials = 'x'\n"]
)
def test_toml_without_a_segmind_section_changes_nothing(project: Project, toml: str) -> None:
    project.write("config.toml", toml)
    assert project.load().destination == "duckdb"


@pytest.mark.parametrize(
    ("content", "file"), [(b"[sources", "config.toml"), (b"\xff\xfe", "secrets.toml"), (b"a = 1\na = 2", "config.toml")]
)
def test_a_file_that_is_not_toml_is_named(project: Project, content: bytes, file: str) -> None:
    (project.folder / ".dlt" / file).write_bytes(content)
    error = project.refusal({})
    assert error.setting == f".dlt/{file}"
    assert "not valid TOML" in str(error)


@pytest.mark.parametrize("placeholder", ["<configure me>", "<your key>", "", "   "])
def test_a_placeholder_is_no_key(project: Project, placeholder: str) -> None:
    project.write("secrets.toml", f'[sources.segmind]\napi_key = "{placeholder}"\n')
    assert project.load().api_key is None


def test_a_missing_key_names_both_ways_to_set_one_and_the_sandbox(project: Project) -> None:
    with pytest.raises(SettingsError) as raised:
        project.load().require_api_key()
    assert raised.value.setting == "SEGMIND_API_KEY"
    for hint in ("Export SEGMIND_API_KEY", "[sources.segmind]", ".dlt/secrets.toml", "make demo", "sandbox"):
        assert hint in str(raised.value)


@pytest.mark.parametrize("key", [f'"{KEY}"', f"'{KEY}'", "SG_0123 4567", "SG_0123\n4567", "SG_ключ"])
def test_a_key_with_stray_characters_is_refused_without_being_repeated(project: Project, key: str) -> None:
    error = project.refusal({"SEGMIND_API_KEY": key})
    assert error.setting == "SEGMIND_API_KEY"
    assert key.strip("'\"") not in str(error)


def test_blanks_around_a_key_are_harmless(project: Project) -> None:
    assert project.load({"SEGMIND_API_KEY": f"  {KEY}\n"}).api_key == KEY


def test_neither_the_key_nor_the_password_of_the_ledger_is_ever_in_a_repr(project: Project) -> None:
    settings = project.load({"SEGMIND_API_KEY": KEY, "SEGMIND_LEDGER_URL": "postgresql://me:pass-of-mine@db/ledger"})
    for shown in (repr(settings), str(settings), f"{settings!s}"):
        assert KEY not in shown
        assert "pass-of-mine" not in shown


BAD_VALUES = [
    ("SEGMIND_API_URL", "api.segmind.com", "not a plain http(s) URL"),
    ("SEGMIND_API_URL", "ftp://api.segmind.com", "not a plain http(s) URL"),
    ("SEGMIND_API_URL", "https://", "not a plain http(s) URL"),
    ("SEGMIND_API_URL", "https://api.segmind.com/?key=1", "not a plain http(s) URL"),
    ("SEGMIND_API_URL", "https://me@api.segmind.com", "not a plain http(s) URL"),
    ("SEGMIND_API_URL", "http://api.segmind.com", "unencrypted"),
    ("SEGMIND_API_URL", "http://127.0.0.1.example.com", "unencrypted"),
    ("SEGMIND_API_URL", "http://192.168.1.2", "unencrypted"),
    ("SEGMIND_PLATFORM_URL", "http://platform.example", "unencrypted"),
    ("SEGMIND_STORAGE_URL", "storage", "not a plain http(s) URL"),
    ("SEGMIND_REQUESTS_PER_MINUTE", "many", "not a number"),
    ("SEGMIND_REQUESTS_PER_MINUTE", "0", "not a positive number"),
    ("SEGMIND_REQUESTS_PER_MINUTE", "-1", "not a positive number"),
    ("SEGMIND_REQUESTS_PER_MINUTE", "nan", "not a positive number"),
    ("SEGMIND_REQUESTS_PER_MINUTE", "inf", "not a positive number"),
    ("SEGMIND_MAX_IN_FLIGHT", "1.5", "not a whole number"),
    ("SEGMIND_MAX_IN_FLIGHT", "0", "not a positive number"),
    ("SEGMIND_RUN_BUDGET_USD", "25 USD", "not a number"),
    ("SEGMIND_RUN_BUDGET_USD", "0", "not a positive number"),
    ("SEGMIND_DAILY_BUDGET_USD", "-0.01", "not a positive number"),
    ("SEGMIND_DAILY_BUDGET_USD", "sNaN", "not a positive number"),
    ("SEGMIND_UNKNOWN_SETTLE_SECONDS", "-1", "not a positive number"),
    ("SEGMIND_UNKNOWN_SETTLE_SECONDS", "119", "paid for twice"),
    ("SEGMIND_V1_TIMEOUT_SECONDS", "0", "not a positive number"),
]


@pytest.mark.parametrize(("variable", "value", "words"), BAD_VALUES)
def test_a_value_that_cannot_be_used_is_named_with_its_variable(
    project: Project, variable: str, value: str, words: str
) -> None:
    error = project.refusal({variable: value})
    assert error.setting == variable
    assert str(error).startswith(f"{variable}: ")
    assert words in str(error)


@pytest.mark.parametrize("file", ["config.toml", "secrets.toml"])
@pytest.mark.parametrize("section", ["segmind", "segmind_consistent_character_ai_source"])
def test_a_bad_value_in_a_file_is_named_with_its_file(project: Project, file: str, section: str) -> None:
    project.write(file, f"[sources.{section}]\nrun_budget_usd = 'lots'\n")
    assert str(project.refusal({})) == f"run_budget_usd in .dlt/{file} [sources.{section}]: 'lots' is not a number."


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("run_budget", "Did you mean run_budget_usd?"),
        ("daily_budgets_usd", "Did you mean daily_budget_usd?"),
        ("colour", "there is no such setting."),
    ],
)
def test_a_name_in_a_file_that_is_no_setting_is_refused(project: Project, name: str, hint: str) -> None:
    project.write("config.toml", f"[sources.segmind]\n{name} = 1\n")
    error = project.refusal({})
    assert error.setting == f"{name} in .dlt/config.toml [sources.segmind]"
    assert str(error).endswith(hint)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("SEGMIND_RUN_BUDGET", "SEGMIND_RUN_BUDGET_USD"),
        ("SEGMIND_BUDGET_USD", "SEGMIND_RUN_BUDGET_USD"),
        ("SOURCES__SEGMIND__DAILY_BUDGET", "SOURCES__SEGMIND__DAILY_BUDGET_USD"),
    ],
)
def test_a_misspelt_variable_is_refused(project: Project, variable: str, meant: str) -> None:
    error = project.refusal({variable: "1"})
    assert error.setting == variable
    assert f"Did you mean {meant}?" in str(error)


def test_variables_of_other_programs_and_dlts_own_settings_are_left_alone(project: Project) -> None:
    project.write(
        "config.toml",
        "[sources.segmind]\nmax_table_nesting = 2\nprompt_sets = ['a']\n[sources.segmind.credits]\nx = 1\n",
    )
    environ = {"SEGMIND_HOMEPAGE": "x", "SOURCES__SEGMIND__CREDITS__WRITE_DISPOSITION": "append"}
    assert project.load(environ) == project.load()


def test_a_project_folder_that_does_not_exist_is_refused(project: Project) -> None:
    error = project.refusal({"SEGMIND_PROJECT_DIR": str(project.folder / "absent")})
    assert error.setting == "SEGMIND_PROJECT_DIR"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8777", "http://localhost:8777", "http://[::1]:8777", "https://gateway.example"]
)
def test_a_gateway_on_loopback_or_over_https_is_accepted(project: Project, url: str) -> None:
    assert project.load({"SEGMIND_API_URL": url}).api_url == url


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v2", "/v1/", "/v2/"])
def test_a_base_url_may_end_in_a_version(project: Project, suffix: str) -> None:
    settings = project.load({"SEGMIND_API_URL": SEGMIND_API_URL + suffix})
    assert settings.api_url == SEGMIND_API_URL
    assert settings.platform_url == DEFAULTS["platform_url"]


def test_another_gateway_serves_history_uploads_and_outputs_itself(project: Project) -> None:
    settings = project.load({"SEGMIND_API_URL": "http://127.0.0.1:8777"})
    assert settings.platform_url == settings.storage_url == "http://127.0.0.1:8777"
    assert settings.output_hosts == ()
    assert settings.is_sandbox
    assert not project.load().is_sandbox


def test_the_origin_keeps_gateways_and_accounts_apart(project: Project) -> None:
    origins = [
        project.load({"SEGMIND_API_URL": url, **account}).api_origin
        for url in (SEGMIND_API_URL, "http://127.0.0.1:8777", "http://127.0.0.1:8778")
        for account in ({}, {"SEGMIND_ACCOUNT": "a"}, {"SEGMIND_ACCOUNT": "b"})
    ]
    assert len(set(origins)) == len(origins)
    assert origins[0] == SEGMIND_API_URL


def test_relative_paths_start_at_the_project_whatever_the_working_folder(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environ = {"SEGMIND_DATA_DIR": "kept/here", "SEGMIND_PROMPTS_DIR": "../sets", "SEGMIND_OUTPUTS_URL": "pictures"}
    loaded = []
    for folder in (elsewhere, project.folder, tmp_path):
        monkeypatch.chdir(folder)
        loaded.append(project.load(environ))
    assert loaded[0] == loaded[1] == loaded[2]
    assert loaded[0].data_dir == project.folder / "kept" / "here"
    assert loaded[0].prompts_dir == project.folder.parent / "sets"
    assert loaded[0].outputs_url == str(project.folder / "pictures")
    assert loaded[0].ledger_url == f"sqlite:///{project.folder}/kept/here/ledger.sqlite"


def test_absolute_paths_stay_as_they_are(project: Project, tmp_path: Path) -> None:
    settings = project.load({"SEGMIND_DATA_DIR": str(tmp_path / "data")})
    assert settings.data_dir == tmp_path / "data"
    assert settings.outputs_url == str(tmp_path / "data" / "outputs")


def test_the_project_is_the_nearest_folder_upward_that_holds_dlt(project: Project) -> None:
    deep = project.folder / "a" / "b"
    deep.mkdir(parents=True)
    assert find_project_dir({}, deep) == project.folder
    (project.folder / "a" / ".dlt").mkdir()
    assert find_project_dir({}, deep) == project.folder / "a"


def test_the_dlt_folder_in_the_home_directory_is_no_project(project: Project) -> None:
    deep = project.folder / "a"
    deep.mkdir()
    assert find_project_dir({"HOME": str(project.folder)}, deep) == deep


def test_the_project_named_in_the_environment_wins_over_the_nearest(project: Project, tmp_path: Path) -> None:
    assert find_project_dir({"SEGMIND_PROJECT_DIR": str(tmp_path)}, project.folder) == tmp_path.resolve()


def test_reading_settings_creates_nothing(project: Project) -> None:
    before = sorted(project.folder.rglob("*"))
    project.load({"SEGMIND_DATA_DIR": "new"})
    assert sorted(project.folder.rglob("*")) == before


@given(text=st.text(max_size=20))
@pytest.mark.parametrize(
    "variable", ["SEGMIND_REQUESTS_PER_MINUTE", "SEGMIND_MAX_IN_FLIGHT", "SEGMIND_DAILY_BUDGET_USD"]
)
def test_any_text_for_a_number_is_either_a_positive_number_or_a_clear_refusal(
    project: Project, variable: str, text: str
) -> None:
    try:
        value = getattr(project.load({variable: text}), variable.removeprefix("SEGMIND_").lower())
    except SettingsError as error:
        refusal: str | None = str(error)
    else:
        refusal = None
        assert value > 0
    pattern = rf"{variable}: .+ is not a (positive |whole )?number\."
    assert refusal is None or re.match(pattern, refusal, re.DOTALL)
