"""The dlt pipeline `segmind`, and the one way to run a load: whole, under the lock, restorable.

The ledger is the truth, so a load may be repeated freely: rows merge on their keys. dlt's working folder is
dropped first and restored from the destination, because other data folders may have used it meanwhile.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dlt
from dlt.common.exceptions import DltException
from dlt.common.pipeline import get_dlt_pipelines_dir
from dlt.pipeline.exceptions import PipelineStepFailed

from segmind_dagster.errors import DestinationError, SegmindDagsterError
from segmind_dagster.source.destinations import duckdb_path, find_destination, fitted, reason
from segmind_dagster.source.locks import duckdb_held, load_lock, working_folder_lock
from segmind_dagster.source.tables import DATASET_NAME, PIPELINE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dlt.common.pipeline import LoadInfo
    from dlt.extract.source import DltSource

    from segmind_dagster.settings import Settings

LOGGER = logging.getLogger(__name__)
_LOADED_INTO = "segmind_loaded_into"


def segmind_pipeline(settings: Settings) -> dlt.Pipeline:
    """The pipeline `segmind` for these settings; nothing is loaded yet."""
    if (path := duckdb_path(settings)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    with _used_to_other_destinations():
        return dlt.pipeline(PIPELINE_NAME, destination=find_destination(settings), dataset_name=DATASET_NAME)


@contextmanager
def _used_to_other_destinations() -> Iterator[None]:
    """Without dlt's warning that its working folder tells of another destination: that folder is not gone by."""

    def is_news(record: logging.LogRecord) -> bool:
        return "in pipeline and will be ignored" not in record.getMessage()

    logger = logging.getLogger("dlt")
    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)


@contextmanager
def _turn(settings: Settings, *, purpose: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold both locks of the dataset and, where the warehouse is a DuckDB file, that file."""
    with (
        load_lock(settings, purpose=purpose, say=say),
        working_folder_lock(Path(get_dlt_pipelines_dir()), purpose=purpose, say=say),
        ExitStack() as stack,
    ):
        if (path := duckdb_path(settings)) is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(duckdb_held(path, say=say))
        yield


@contextmanager
def warehouse(settings: Settings, *, purpose: str, say: Callable[[str], None] = LOGGER.info) -> Iterator[dlt.Pipeline]:
    """The pipeline for reading, in its turn with loaders, which are told the purpose.

    Its schema is restored from the destination if need be.

    Raises:
        LoadLockError: another loader, or an open connection, was in the way for too long.
        DestinationError: the destination cannot be reached.
    """
    with _turn(settings, purpose=purpose, say=say):
        # made inside the locks: making it reads and writes dlt's working folder
        pipeline = segmind_pipeline(settings)
        try:
            if not _is_of(pipeline, settings):
                pipeline.drop()
                pipeline.sync_destination()
                _belongs_to(pipeline, settings)
        except DltException as error:
            raise DestinationError(settings.destination, reason(error, settings)) from error
        yield pipeline


def load(
    settings: Settings,
    source: DltSource,
    *,
    purpose: str = "loading",
    say: Callable[[str], None] = LOGGER.info,
) -> tuple[LoadInfo, dlt.Pipeline]:
    """Run the whole dlt load under the lock; who waits for that is told the purpose.

    Raises:
        LoadLockError: another loader, or an open connection, was in the way for too long.
        DestinationError: the destination cannot be reached, or refused it.
    """
    with _turn(settings, purpose=purpose, say=say):
        pipeline = segmind_pipeline(settings)
        pipeline.drop()
        try:
            info = pipeline.run(fitted(source, pipeline.destination))
            info.raise_on_failed_jobs()
        except DltException as error:
            if own := _own_cause(error):
                raise own from error
            if isinstance(error, PipelineStepFailed) and error.step in {"extract", "normalize"}:
                raise
            raise DestinationError(settings.destination, reason(error, settings)) from error
        _belongs_to(pipeline, settings)
    return info, pipeline


def _belongs_to(pipeline: dlt.Pipeline, settings: Settings) -> None:
    # `dlt.pipeline("segmind").dataset()` finds the default file relative to this folder, from anywhere
    pipeline.set_local_state_val("initial_cwd", str(settings.data_dir))
    pipeline.set_local_state_val(_LOADED_INTO, _location(pipeline))


def _is_of(pipeline: dlt.Pipeline, settings: Settings) -> bool:
    """Whether dlt's working folder tells of this data folder and this destination."""
    return bool(
        pipeline.get_local_state_val("initial_cwd") == str(settings.data_dir)
        and pipeline.get_local_state_val(_LOADED_INTO) == _location(pipeline)
    )


def _location(pipeline: dlt.Pipeline) -> str:
    return f"{pipeline.destination.destination_name} {pipeline.destination_client().config.fingerprint()}"


def _own_cause(error: BaseException | None) -> SegmindDagsterError | None:
    """Our own error inside dlt's, whose message says more than dlt's stack trace."""
    while error is not None and not isinstance(error, SegmindDagsterError):
        error = error.__cause__
    return error
