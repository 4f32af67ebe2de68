"""The dlt destination that the settings name: which it is, and whether it can be used.

A run asks before it buys anything. Credentials are dlt's own business: they are read by dlt, from where it always
reads them, and appear in no message. How a load is run is `pipeline`'s business.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dlt
from dlt.common.configuration.container import Container
from dlt.common.configuration.exceptions import ConfigFieldMissingException, ConfigurationException
from dlt.common.destination import Destination
from dlt.common.destination.exceptions import InvalidDestinationReference, UnknownDestinationModule
from dlt.common.pipeline import PipelineContext
from dlt.common.schema import Schema
from dlt.dataset.utils import get_destination_client_initial_config

from segmind_dagster.errors import DestinationError, SettingsError
from segmind_dagster.gateway.redaction import redact
from segmind_dagster.source.long_texts import with_room_for_texts
from segmind_dagster.source.tables import DATASET_NAME, PIPELINE_NAME

if TYPE_CHECKING:
    from dlt.extract.source import DltSource

    from segmind_dagster.settings import Settings

_USER_INFO = re.compile(r"(?<=://)[^\s/@]+@")
_LONGEST_REASON = 400
# what reads and writes a bucket, by the scheme of its URL
_BUCKETS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfss": "adlfs"}


def duckdb_path(settings: Settings) -> Path | None:
    """The DuckDB file that is loaded into; None for another destination, or a database that is no file.

    dlt's own configuration wins; a relative path in it starts at the project's root.
    """
    if settings.destination != "duckdb":
        return None
    configured = _configured("destination.duckdb.credentials") or _configured("destination.duckdb.credentials.database")
    if configured is None:
        return settings.data_dir / f"{PIPELINE_NAME}.duckdb"
    if not isinstance(configured, str) or configured.startswith((":", "md:", "duckdb:///:", "duckdb:///md:")):
        return None
    return (settings.project_dir / configured.removeprefix("duckdb:///")).resolve()


def find_destination(settings: Settings) -> Destination[Any, Any]:
    """The destination, as a dlt pipeline takes it; nothing is connected.

    Args:
        settings: its name; for DuckDB also where its file is.

    Raises:
        SettingsError: there is no such destination, or a folder that says nothing about where it starts.
        DestinationError: it is a filesystem, and what that needs is not installed.
    """
    if (path := duckdb_path(settings)) is not None:
        return dlt.destinations.duckdb(credentials=str(path))
    try:
        found: Destination[Any, Any] | None = Destination.from_reference(settings.destination)
    except (UnknownDestinationModule, InvalidDestinationReference) as error:
        raise SettingsError(
            "SEGMIND_DESTINATION",
            f"dlt knows no destination {settings.destination!r}; it knows duckdb, postgres, bigquery, snowflake, "
            "filesystem and others. Nothing was submitted.",
        ) from error
    if found is None or not isinstance(found, dlt.destinations.filesystem):
        return cast("Destination[Any, Any]", found)
    return _lake(settings, found.destination_name)


def fitted(source: DltSource, destination: Destination[Any, Any]) -> DltSource:
    """The source as it has to be for a destination."""
    source = with_room_for_texts(source, destination.capabilities())
    if not isinstance(destination, dlt.destinations.filesystem):
        return source
    from segmind_dagster.source.lake import with_empty_tables

    return with_empty_tables(source)


def refuse_to_double() -> None:
    """Refuse to generate for a user's own pipeline that would append where it should merge.

    Raises:
        SettingsError: it does.
    """
    context = Container()[PipelineContext]
    if not context.is_active():
        return
    # one with Delta tables is of a class of its own
    if type(cast("dlt.Pipeline", context.pipeline()).destination) is dlt.destinations.filesystem:
        raise SettingsError(
            "destination",
            "dlt's `filesystem` appends where it should merge, so that rows would double with every load. Use "
            "`segmind_dagster.source.lake.lake(bucket_url=...)`, see docs/destinations.md. Nothing was submitted.",
        )


def check_destination(settings: Settings) -> None:
    """Refuse a destination that cannot be loaded into, before anything is paid for that could not be loaded.

    A DuckDB file is not opened: another process may have it open, and that is waited for when it is needed.

    Raises:
        SettingsError: there is no such destination.
        DestinationError: a driver or credentials are missing, or it cannot be reached.
    """
    destination = find_destination(settings)
    if duckdb_path(settings) is not None:
        return
    try:
        client = destination.client(
            Schema(PIPELINE_NAME), get_destination_client_initial_config(destination, DATASET_NAME)
        )
        # opens a connection, where there is such a thing
        with client:
            if isinstance(destination, dlt.destinations.filesystem):
                client.is_storage_initialized()
    except Exception as error:  # each driver has errors of its own
        raise DestinationError(settings.destination, reason(error, settings), is_before_submitting=True) from error


def reason(error: BaseException, settings: Settings) -> str:
    """What went wrong with a destination, in a sentence, without secrets."""
    causes = [error]
    while (inner := getattr(causes[-1], "inner_exc", None) or getattr(causes[-1], "exception", None)) is not None:
        causes.append(inner)
    last = causes[-1]
    if isinstance(last, ConfigFieldMissingException):
        prefix = f"DESTINATION__{settings.destination.upper()}"
        names = ", ".join(dict.fromkeys(_missing(last)))
        return f"its configuration lacks {names}; set {prefix}__CREDENTIALS or {prefix}__..., see docs/destinations.md"
    if isinstance(last, ImportError):
        return f'a driver is missing: pip install "dlt[{settings.destination}]"'
    if isinstance(last, ConfigurationException):
        return f"its configuration cannot be used: {_first_sentence(last)}"
    return _first_sentence(last)


def _lake(settings: Settings, name: str) -> Destination[Any, Any]:
    url = _configured(f"destination.{name}.bucket_url")
    if isinstance(url, str) and "://" not in url and not Path(url).is_absolute():
        raise SettingsError(
            f"DESTINATION__{name.upper()}__BUCKET_URL",
            f"{url!r} is relative, and would be another folder in every working folder. Write file:///... for a local "
            "folder. Nothing was submitted.",
        )
    needed = ["deltalake"]
    if isinstance(url, str) and (bucket := _BUCKETS.get(url.partition("://")[0])):
        needed.append(bucket)
    if missing := [package for package in needed if find_spec(package) is None]:
        extra = "filesystem,s3" if "s3fs" in missing else "filesystem"
        also = "".join(f" {package}" for package in missing if package not in {"deltalake", "s3fs"})
        raise DestinationError(
            settings.destination,
            f'{" and ".join(missing)} not installed: pip install "segmind-dagster[{extra}]"{also}',
            is_before_submitting=True,
        )
    from segmind_dagster.source.lake import lake

    return lake(destination_name=name)


def _missing(error: ConfigFieldMissingException) -> list[str]:
    """Names of the fields that dlt looked for, those of nested configurations among them."""
    names: list[str] = []
    for name, traces in error.traces.items():
        nested = [inner for trace in traces for inner in getattr(trace, "traces", None) or {}]
        names += nested or [name]
    return names


def _first_sentence(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return redact(_USER_INFO.sub("", text))[:_LONGEST_REASON]


def _configured(name: str) -> Any:
    """What dlt's own configuration says, secrets first."""
    secret: Any = dlt.secrets.get(name)
    return dlt.config.get(name) if secret is None else secret
