"""Where things are and which limits hold: environment and `.dlt/*.toml`, read once into one value.

An explicit argument wins over the environment, the environment over `.dlt/secrets.toml` and
`.dlt/config.toml` (`[sources.segmind]`), those over the defaults. Relative paths start at the project
folder, never at the working folder. Nothing is read at import; credentials of a dlt destination are
dlt's own business and do not appear here.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args
from urllib.parse import urlsplit

from segmind_dagster.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SEGMIND_API_URL = "https://api.segmind.com"
SEGMIND_PLATFORM_URL = "https://api.spotprod.segmind.com"
SEGMIND_STORAGE_URL = "https://workflows-api.segmind.com"
# outputs and uploaded inputs are served from these (docs:async, docs:storage)
SEGMIND_OUTPUT_HOSTS = ("images.segmind.com", "storage.segmind.com", "videos.segmind.com")

# the second is the section name that dlt's own page on Segmind tells people to use
TOML_SECTIONS = ("segmind", "segmind_consistent_character_ai_source")
# longer than a run's lease and a submission's time-out together
_SHORTEST_SETTLE_S = 120.0
# how a backfill over many prompt sets becomes runs
Backfill = Literal["runs", "single_run"]
_PREFIXES = ("SEGMIND_", *(f"SOURCES__{section.upper()}__" for section in TOML_SECTIONS))
# what dlt itself reads from a source's section: its settings, and the arguments of `segmind_source`
_DLT_NAMES = frozenset(
    {"max_table_nesting", "root_key", "schema_contract", "parallelized", "prompt_sets", "models", "generate"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One run's settings; see README.md for the table of variables.

    Args:
        project_dir: folder that relative paths start from.
        api_key: key of the account; None until something needs it.
        api_url: gateway base, serves `/v1` and `/v2`.
        platform_url: serves the models list and the request history.
        storage_url: serves `upload-asset`.
        output_hosts: hosts that outputs may be fetched from; Segmind's and the API's always may.
        account: label that keeps two accounts of one origin apart.
        prompts_dir: prompt files.
        data_dir: everything kept: ledger, locks, outputs, the DuckDB file.
        outputs_url: fsspec URL of the outputs folder.
        ledger_url: SQLAlchemy URL of the ledger.
        destination: dlt destination name.
        requests_per_minute: upper bound for this account, over all processes.
        max_in_flight: generations of one run at the provider at once.
        run_budget_usd: cap of one run.
        daily_budget_usd: cap of one UTC day.
        retry_after_seconds: how long the sensor waits before it runs a failed generation again; twice as long after
            each further run.
        low_balance_usd: balance below which the sensor warns.
        unknown_settle_seconds: how long a lost submission must stay absent from the provider's history
            before it may be sent again; eight settling times where no control shows that the history has come so far.
        v1_timeout_seconds: how long a v1 call, which answers only when it is done, may take.
        backfill: whether a backfill over many prompt sets is a run a set, or one run a range of sets.
        refresh_sets: keys of the prompt sets that the schedule `prompt_set_refresh` materializes; all when empty.
    """

    project_dir: Path
    api_key: str | None = field(default=None, repr=False)
    api_url: str = SEGMIND_API_URL
    platform_url: str = SEGMIND_PLATFORM_URL
    storage_url: str = SEGMIND_STORAGE_URL
    output_hosts: tuple[str, ...] = SEGMIND_OUTPUT_HOSTS
    account: str | None = None
    prompts_dir: Path
    data_dir: Path
    outputs_url: str
    ledger_url: str = field(repr=False)
    destination: str = "duckdb"
    requests_per_minute: float = 60
    max_in_flight: int = 1000
    run_budget_usd: Decimal = Decimal(25)
    daily_budget_usd: Decimal = Decimal(100)
    retry_after_seconds: float = 300
    low_balance_usd: Decimal = Decimal(5)
    unknown_settle_seconds: float = 120
    v1_timeout_seconds: float = 600
    backfill: Backfill = "runs"
    refresh_sets: tuple[str, ...] = ()

    @property
    def api_origin(self) -> str:
        """Scheme, host and port of the API, and the account label if there is one."""
        parts = urlsplit(self.api_url)
        origin = f"{parts.scheme}://{parts.netloc}"
        return f"{origin}#{self.account}" if self.account else origin

    @property
    def is_sandbox(self) -> bool:
        """Whether the API runs on this machine, so that nothing costs money."""
        return urlsplit(self.api_url).hostname in {"127.0.0.1", "::1", "localhost"}

    def require_api_key(self) -> str:
        """The API key.

        Raises:
            SettingsError: there is none.
        """
        if not self.api_key:
            raise SettingsError(
                "SEGMIND_API_KEY",
                "no API key is set. Export SEGMIND_API_KEY, or put `api_key` under [sources.segmind] in "
                ".dlt/secrets.toml. Without a key, `make demo` and `segmind-dagster sandbox` run everything "
                "against a local stand-in.",
            )
        return self.api_key


def load_settings(*, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings.

    Args:
        environ: environment to read; the process's own when omitted.
        overrides: fields of `Settings` given explicitly; they win over everything.

    Raises:
        SettingsError: a value cannot be used; the message names it.
    """
    reader = _Reader(os.environ if environ is None else environ, overrides.get("project_dir"))
    reader.check_names([each.name for each in fields(Settings)])
    root = reader.project_dir
    # explicit addresses and folders decide what is derived from them, and are checked like any other
    for name in ("api_url", "platform_url", "storage_url"):
        if overrides.get(name):
            overrides[name] = reader.checked_url(name, str(overrides[name]))
    if isinstance(overrides.get("api_key"), str):
        overrides["api_key"] = reader.checked_key(overrides["api_key"].strip())
    for name in ("data_dir", "prompts_dir"):
        if overrides.get(name):
            overrides[name] = reader.absolute(overrides[name])
    api_url = overrides.get("api_url") or reader.url("api_url") or SEGMIND_API_URL
    is_segmind = urlsplit(api_url).hostname == urlsplit(SEGMIND_API_URL).hostname
    data_dir = overrides.get("data_dir") or reader.path("data_dir", "data")
    values: dict[str, Any] = {
        "project_dir": root,
        "api_key": reader.api_key(),
        "api_url": api_url,
        "platform_url": reader.url("platform_url") or (SEGMIND_PLATFORM_URL if is_segmind else api_url),
        "storage_url": reader.url("storage_url") or (SEGMIND_STORAGE_URL if is_segmind else api_url),
        "output_hosts": tuple(
            dict.fromkeys((*(SEGMIND_OUTPUT_HOSTS if is_segmind else ()), *reader.names("output_hosts")))
        ),
        "account": reader.text("account"),
        "prompts_dir": reader.path("prompts_dir", "prompts"),
        "data_dir": data_dir,
        "outputs_url": reader.location("outputs_url") or str(data_dir / "outputs"),
        "ledger_url": reader.database("ledger_url") or f"sqlite:///{data_dir / 'ledger.sqlite'}",
        "destination": reader.text("destination") or "duckdb",
        "requests_per_minute": float(reader.positive("requests_per_minute", "60")),
        "max_in_flight": reader.whole("max_in_flight", "1000"),
        "run_budget_usd": reader.positive("run_budget_usd", "25"),
        "daily_budget_usd": reader.positive("daily_budget_usd", "100"),
        "retry_after_seconds": float(reader.positive("retry_after_seconds", "300")),
        "low_balance_usd": reader.positive("low_balance_usd", "5", zero_allowed=True),
        "unknown_settle_seconds": float(reader.positive("unknown_settle_seconds", "120", zero_allowed=True)),
        "v1_timeout_seconds": float(reader.positive("v1_timeout_seconds", "600")),
        "backfill": reader.backfill(),
        "refresh_sets": reader.names("refresh_sets"),
    }
    settings = Settings(**{**values, **overrides, "project_dir": root})
    if settings.unknown_settle_seconds < _SHORTEST_SETTLE_S and not settings.is_sandbox:
        raise SettingsError(
            reader.place("unknown_settle_seconds"),
            f"below {_SHORTEST_SETTLE_S:.0f} a submission that is still in progress would count as never sent, and be "
            "paid for twice.",
        )
    return settings


def load_backfill() -> Backfill:
    """How backfills become runs: the one setting that the definitions need before there is a run.

    The others are not checked here: one that cannot be used stops a run, not the whole code location.

    Raises:
        SettingsError: it is neither `runs` nor `single_run`.
    """
    try:
        reader = _Reader(os.environ, None)
    except SettingsError:
        return "runs"
    return reader.backfill()


def find_project_dir(environ: Mapping[str, str], start: Path) -> Path:
    """`SEGMIND_PROJECT_DIR`, else the nearest folder upward that holds `.dlt/`, else where we are."""
    if named := environ.get("SEGMIND_PROJECT_DIR"):
        folder = Path(named).expanduser().resolve()
        if not folder.is_dir():
            raise SettingsError("SEGMIND_PROJECT_DIR", f"{folder} is not a folder.")
        return folder
    start = start.resolve()
    # the home folder may hold a global .dlt/, which marks no project
    home = Path(environ.get("HOME", "/nonexistent")).resolve()
    return next((p for p in (start, *start.parents) if p != home and (p / ".dlt").is_dir()), start)


class _Reader:
    """Looks a setting up: `SEGMIND_<NAME>`, `SOURCES__SEGMIND__<NAME>`, then the TOML files."""

    def __init__(self, environ: Mapping[str, str], project_dir: Path | None) -> None:
        self._environ = environ
        self.project_dir = Path(project_dir).resolve() if project_dir else find_project_dir(environ, Path.cwd())
        self._tables = [
            found
            for name in ("secrets.toml", "config.toml")
            for found in _source_tables(self.project_dir / ".dlt" / name)
        ]

    def check_names(self, known: Sequence[str]) -> None:
        """Refuse what looks like a setting and is none: a cap with a slip in its name would cap nothing."""
        for place, table in self._tables:
            for name, value in table.items():
                if name not in known and name not in _DLT_NAMES and not isinstance(value, dict):
                    raise SettingsError(f"{name} in {place}", f"there is no such setting.{_suggestion(name, known)}")
        for variable in self._environ:
            prefix = next((each for each in _PREFIXES if variable.startswith(each)), None)
            name = variable.removeprefix(prefix or "").lower()
            # other programs may have variables of that prefix: only a near miss is a slip
            if prefix and name not in known and "__" not in name and (suggestion := _suggestion(name, known, prefix)):
                raise SettingsError(variable, f"there is no such setting.{suggestion}")

    def text(self, name: str) -> str | None:
        """The setting as text, stripped; None when it is not given or empty."""
        return self._find(name)[0]

    def place(self, name: str) -> str:
        """Where the setting was found, for messages about it."""
        return self._find(name)[1]

    def _find(self, name: str) -> tuple[str | None, str]:
        for prefix in _PREFIXES:
            if value := self._environ.get(prefix + name.upper(), "").strip():
                return value, prefix + name.upper()
        for place, table in self._tables:
            if name in table and str(table[name]).strip():
                found = table[name]
                text = ",".join(map(str, found)) if isinstance(found, list) else str(found).strip()
                return text, f"{name} in {place}"
        return None, _PREFIXES[0] + name.upper()

    def api_key(self) -> str | None:
        return self.checked_key(self.text("api_key"))

    def checked_key(self, key: str | None) -> str | None:
        # dlt writes placeholders such as <configure me>; the other stands in .dlt/example.secrets.toml
        if key is None or key.startswith("<") or key == "YOUR_SEGMIND_API_KEY":
            return None
        if not key.isascii() or any(c.isspace() or c in "\"'" for c in key):
            raise SettingsError(self.place("api_key"), "the key holds quotes, spaces or other stray characters.")
        return key

    def path(self, name: str, default: str) -> Path:
        return self.absolute(self.text(name) or default)

    def absolute(self, path: Path | str) -> Path:
        return (self.project_dir / Path(path).expanduser()).resolve()

    def location(self, name: str) -> str | None:
        """An fsspec URL, or a path made absolute."""
        value = self.text(name)
        return value if value is None or "://" in value else str(self.path(name, value))

    def database(self, name: str) -> str | None:
        """A SQLAlchemy URL; the path of an SQLite file made absolute."""
        value = self.text(name)
        if value is None or not value.startswith("sqlite:///") or value.startswith("sqlite:////"):
            return value
        return f"sqlite:///{self.absolute(value.removeprefix('sqlite:///'))}"

    def url(self, name: str) -> str | None:
        value = self.text(name)
        return None if value is None else self.checked_url(name, value)

    def checked_url(self, name: str, value: str) -> str:
        try:
            parts = urlsplit(value)
            is_plain = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            is_plain = False
        if not is_plain or parts.scheme not in {"http", "https"} or parts.query or parts.fragment or parts.username:
            raise SettingsError(self.place(name), f"{value!r} is not a plain http(s) URL.")
        if parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
            raise SettingsError(self.place(name), f"{value!r} would send the API key unencrypted; use https.")
        value = f"{parts.scheme}://{parts.netloc.lower()}{parts.path}"
        return value.rstrip("/").removesuffix("/v1").removesuffix("/v2")

    def names(self, name: str) -> tuple[str, ...]:
        return tuple(part.strip().lower() for part in (self.text(name) or "").split(",") if part.strip())

    def positive(self, name: str, default: str, *, zero_allowed: bool = False) -> Decimal:
        value = self.text(name) or default
        try:
            number = Decimal(value)
        except InvalidOperation as error:
            raise SettingsError(self.place(name), f"{value!r} is not a number.") from error
        if not number.is_finite() or number < 0 or (number == 0 and not zero_allowed):
            raise SettingsError(self.place(name), f"{value!r} is not a positive number.")
        return number

    def backfill(self) -> Backfill:
        value = self.text("backfill") or "runs"
        if value not in get_args(Backfill):
            raise SettingsError(self.place("backfill"), f"{value!r} is neither `runs` nor `single_run`.")
        return cast("Backfill", value)

    def whole(self, name: str, default: str) -> int:
        number = self.positive(name, default)
        if number != int(number):
            raise SettingsError(self.place(name), f"{number} is not a whole number.")
        return int(number)


def _suggestion(name: str, known: Sequence[str], prefix: str = "") -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.7)
    return f" Did you mean {prefix + (close[0].upper() if prefix else close[0])}?" if close else ""


def _source_tables(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The tables of a TOML file that are about this source, each with where it stands."""
    if not path.is_file():
        return []
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f".dlt/{path.name}", f"the file is not valid TOML: {error}") from error
    sources = document.get("sources", {})
    tables = {section: sources.get(section) for section in TOML_SECTIONS} if isinstance(sources, dict) else {}
    return [
        (f".dlt/{path.name} [sources.{section}]", table) for section, table in tables.items() if isinstance(table, dict)
    ]
