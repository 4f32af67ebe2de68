"""The dlt pipeline `segmind`, and the one way to run a load: whole, under the lock, restorable.

The ledger is the truth, so a load may be repeated freely: rows merge on their keys. dlt's working folder is
dropped first and restored from the destination, because other data folders may have used it meanwhile.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.destination import Destination
from dlt.common.destination.exceptions import InvalidDestinationReference, UnknownDestinationModule
from dlt.common.pipeline import get_dlt_pipelines_dir
from dlt.pipeline.exceptions import PipelineStepFailed

from segmind_dagster.errors import SegmindDagsterError, SettingsError
from segmind_dagster.source.locks import load_lock, wait_for_duckdb, working_folder_lock
from segmind_dagster.source.tables import DATASET_NAME, PIPELINE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dlt.common.pipeline import LoadInfo
    from dlt.extract.source import DltSource

    from segmind_dagster.settings import Settings

LOGGER = logging.getLogger(__name__)


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


def check_destination(settings: Settings) -> None:
    """Refuse a destination that dlt does not know, before anything is paid for that could not be loaded.

    Raises:
        SettingsError: there is no such destination.
    """
    try:
        Destination.from_reference(settings.destination)
    except (UnknownDestinationModule, InvalidDestinationReference) as error:
        raise SettingsError(
            "SEGMIND_DESTINATION",
            f"dlt knows no destination {settings.destination!r}; it knows duckdb, postgres, bigquery, snowflake, "
            "filesystem and others. Nothing was submitted.",
        ) from error


def segmind_pipeline(settings: Settings) -> dlt.Pipeline:
    """The pipeline `segmind` for these settings; nothing is loaded yet.

    Args:
        settings: destination and data folder.
    """
    path = duckdb_path(settings)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    destination: Any = settings.destination if path is None else dlt.destinations.duckdb(credentials=str(path))
    return dlt.pipeline(PIPELINE_NAME, destination=destination, dataset_name=DATASET_NAME)


@contextmanager
def warehouse(settings: Settings, *, purpose: str, say: Callable[[str], None] = LOGGER.info) -> Iterator[dlt.Pipeline]:
    """The pipeline for reading, in its turn with loaders; its schema is restored from the destination if need be.

    Args:
        settings: destination and data folder.
        purpose: shown to whoever waits for the lock.
        say: told while waiting.
    """
    with (
        load_lock(settings, purpose=purpose, say=say),
        working_folder_lock(Path(get_dlt_pipelines_dir()), purpose=purpose, say=say),
    ):
        if (path := duckdb_path(settings)) is not None:
            wait_for_duckdb(path, say=say)
        # made inside the locks: making it reads and writes dlt's working folder
        pipeline = segmind_pipeline(settings)
        if pipeline.get_local_state_val("initial_cwd") != str(settings.data_dir):
            pipeline.drop()
            pipeline.sync_destination()
            pipeline.set_local_state_val("initial_cwd", str(settings.data_dir))
        yield pipeline


def load(
    settings: Settings,
    source: DltSource,
    *,
    purpose: str = "loading",
    say: Callable[[str], None] = LOGGER.info,
) -> tuple[LoadInfo, dlt.Pipeline]:
    """Run the whole dlt load under the lock.

    Args:
        settings: destination and data folder.
        source: what to load.
        purpose: shown to whoever waits for the lock.
        say: told while waiting.

    Raises:
        LoadLockError: another loader, or an open connection, was in the way for too long.
    """
    with (
        load_lock(settings, purpose=purpose, say=say),
        working_folder_lock(Path(get_dlt_pipelines_dir()), purpose=purpose, say=say),
    ):
        if (path := duckdb_path(settings)) is not None:
            wait_for_duckdb(path, say=say)
        pipeline = segmind_pipeline(settings)
        pipeline.drop()
        try:
            info = pipeline.run(source)
        except PipelineStepFailed as error:
            raise _own_cause(error) or error from error
        info.raise_on_failed_jobs()
        # `dlt.pipeline("segmind").dataset()` finds the default file relative to this folder, from anywhere
        pipeline.set_local_state_val("initial_cwd", str(settings.data_dir))
    return info, pipeline


def _own_cause(error: BaseException | None) -> SegmindDagsterError | None:
    """Our own error inside dlt's, whose message says more than dlt's stack trace."""
    while error is not None and not isinstance(error, SegmindDagsterError):
        error = error.__cause__
    return error


def _configured(name: str) -> Any:
    """What dlt's own configuration says, secrets first."""
    secret: Any = dlt.secrets.get(name)
    return dlt.config.get(name) if secret is None else secret
