"""Brings the partitions of a Dagster instance in step with the prompt files, at once instead of at a tick."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from segmind_dagster.errors import SettingsError
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.sensors import partition_changes
from segmind_dagster.prompts import scan_prompts


def sync_partitions(
    instance: dg.DagsterInstance | None = None, segmind: SegmindResource | None = None
) -> tuple[list[str], list[str], list[str]]:
    """Add and remove partitions; returns the keys added, the keys removed and the problems found.

    Args:
        instance: which instance; the one of DAGSTER_HOME when omitted.
        segmind: where the prompt files are; from the environment when omitted.

    Raises:
        PromptSetError: the prompts folder cannot be read.
        SettingsError: DAGSTER_HOME is not a folder.
    """
    if instance is None:
        home = Path(os.environ.get("DAGSTER_HOME", ""))
        if not (home.is_absolute() and home.is_dir()):
            raise SettingsError(
                "DAGSTER_HOME",
                f"'{home}' is not the absolute path of a folder that exists, so no partition was changed. "
                "Make the folder (mkdir -p), or unset the variable: the folder in the project's data is used then.",
            )
        with dg.DagsterInstance.get() as found:
            return sync_partitions(found, segmind)
    folder = scan_prompts((segmind or SegmindResource()).load().prompts_dir)
    requests, problems = partition_changes(instance, folder)
    added: list[str] = []
    removed: list[str] = []
    for request in requests:
        keys = list(request.partition_keys)
        if isinstance(request, dg.AddDynamicPartitionsRequest):
            instance.add_dynamic_partitions(request.partitions_def_name, keys)
            added += keys
        else:
            for key in keys:
                instance.delete_dynamic_partition(request.partitions_def_name, key)
            removed += keys
    return added, removed, problems
