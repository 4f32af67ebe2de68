"""The sensor that follows the prompt files: partitions, problems by name, runs of the sets that ask for them.

A file's name makes its partition; its content is read when it has changed, to report what is wrong with it and to
run `auto_run` sets. The cursor holds a short digest of each file's time and size, so that a tick reads little.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import dagster as dg

from segmind_dagster.errors import PromptSetError, SegmindDagsterError, SettingsError
from segmind_dagster.orchestration.asset_partitions import REQUESTED_BY
from segmind_dagster.orchestration.partitions import prompt_sets
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.sensors.activity import activity, unfinished_runs
from segmind_dagster.orchestration.sensors.budget import why_refused
from segmind_dagster.orchestration.translator import MODEL_KEY_OF, MODEL_KEYS, PROMPT_SET_KEY
from segmind_dagster.prompts import PromptSet, load_prompt_set, scan_prompts
from segmind_dagster.prompts.folder import PromptFolder
from segmind_dagster.settings import Settings

NAME = "prompt_files"
# reading a large folder for the first time takes a while: what does not fit is read at the next tick
_READING_S = 5.0
_BROKEN = "!"

Change = dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest


@dg.sensor(
    name=NAME,
    description="Keeps the partitions in step with the prompt files: one file, one prompt set, one partition. Sets "
    "with `auto_run: true` are materialized when their file is new or has changed, within their budget.",
    target=dg.AssetSelection.assets(PROMPT_SET_KEY, *MODEL_KEYS),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
)
def prompt_files(context: dg.SensorEvaluationContext, segmind: SegmindResource) -> dg.SensorResult | dg.SkipReason:
    """Adds a partition for each new prompt file and removes those whose file is gone; rows and outputs stay."""
    try:
        settings = segmind.load()
        folder = scan_prompts(settings.prompts_dir)
    except (PromptSetError, SettingsError) as error:
        return dg.SkipReason(str(error))
    changes, problems = partition_changes(context.instance, folder)
    scan = _FileScan(context.instance, settings, _read_cursor(context.cursor))
    scan.read(folder.files)
    context.update_cursor(json.dumps(scan.now, separators=(",", ":")))
    said = [*problems, *scan.problems, *scan.notes]
    if changes or scan.run_requests:
        for problem in said:
            context.log.warning(problem)
        return dg.SensorResult(
            run_requests=scan.run_requests,
            dynamic_partitions_requests=changes,
            asset_events=scan.observations,
        )
    reason = "; ".join(said) or "Every prompt file has its partition."
    if scan.observations:
        return dg.SensorResult(skip_reason=reason, asset_events=scan.observations)
    return dg.SkipReason(reason)


def partition_changes(instance: dg.DagsterInstance, folder: PromptFolder) -> tuple[list[Change], list[str]]:
    """What would bring the partitions in step with the prompt files, and the problems of unusable files."""
    existing = set(instance.get_dynamic_partitions(prompt_sets.name or ""))
    # a file with a problem keeps its partition: what it held is not forgotten over a slip
    blamed = {problem.file.rsplit(".", 1)[0] for problem in folder.problems}
    added = sorted(set(folder.files) - existing)
    removed = sorted(existing - set(folder.files) - blamed)
    problems = [str(problem) for problem in folder.problems]
    if removed and not folder.files:
        # more likely a folder that is not mounted than the removal of every set
        removed = []
        problems.append("The prompts folder is empty: the partitions are kept until it holds a prompt file again.")
    changes: list[Change] = []
    if added:
        changes.append(prompt_sets.build_add_request(added))
    if removed:
        changes.append(prompt_sets.build_delete_request(removed))
    return changes, problems


@dataclass(slots=True)
class _FileScan:
    """One tick's look into the files that have changed.

    Args:
        instance: Dagster's records.
        settings: caps, folders.
        before: what the last tick remembers of each file.
        now: what this tick remembers.
        problems: what is wrong with files, by name.
        notes: `auto_run` sets that are not run, and why.
        run_requests: runs of `auto_run` sets.
        observations: files that have just become broken or readable.
    """

    instance: dg.DagsterInstance
    settings: Settings
    before: Mapping[str, str]
    now: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    run_requests: list[dg.RunRequest] = field(default_factory=list)
    observations: list[dg.AssetObservation] = field(default_factory=list)

    def read(self, files: Mapping[str, Path]) -> None:
        """Look into each file that is not the one the last tick saw, while there is time."""
        until = time.monotonic() + _READING_S
        unread = 0
        # broken files come last, so that they never delay others
        for key in sorted(files, key=lambda key: (self.before.get(key, "").startswith(_BROKEN), key)):
            signature = _signature(files[key])
            if self.before.get(key) == signature:
                self.now[key] = signature
            elif time.monotonic() > until:
                unread += 1
                if key in self.before:
                    self.now[key] = self.before[key]
            else:
                self._read(key, files[key], signature)
        if unread:
            self.notes.append(f"{unread} more files are read at the next tick")

    def _read(self, key: str, path: Path, signature: str) -> None:
        was_broken = self.before.get(key, "").startswith(_BROKEN)
        try:
            found = load_prompt_set(path, project_dir=self.settings.project_dir)
        except PromptSetError as error:
            self.problems += [str(problem) for problem in error.problems[:3]]
            self.now[key] = _BROKEN + signature
            if self.before.get(key) != self.now[key]:
                self._observe(key, str(error))
            return
        if was_broken:
            self._observe(key, None)
        if found.auto_run and (why_not := self._run(found)) is not None:
            # not remembered: the next tick looks again
            self.notes.append(f"'{key}' is not run: {why_not}")
            return
        self.now[key] = signature

    def _observe(self, key: str, problem: str | None) -> None:
        self.observations.append(
            dg.AssetObservation(
                asset_key=PROMPT_SET_KEY,
                partition=key,
                description="The prompt file cannot be used." if problem else "The prompt file can be used again.",
                metadata={"problems": dg.MetadataValue.md(f"```\n{problem}\n```")} if problem else {},
            )
        )

    def _run(self, found: PromptSet) -> str | None:
        """Ask for a run, once for each content of the file; why not, when it has to wait."""
        if not found.models:
            return None
        resources = tuple(model.resource for model in found.models)
        try:
            refusal = self._refusal(found, resources)
        except SegmindDagsterError as error:
            return str(error)
        if refusal is not None:
            return refusal
        active = activity(self.instance, unfinished_runs(self.instance), (), now=datetime.now(UTC)).partitions
        busy = next(
            (active[partition] for name in resources if (partition := (found.key, MODEL_KEY_OF[name])) in active), None
        )
        if busy is not None:
            return f"run {busy[:8]} is at it"
        self.run_requests.append(
            dg.RunRequest(
                run_key=f"{found.key[:80]}/{found.digest[:16]}",
                partition_key=found.key,
                asset_selection=[PROMPT_SET_KEY, *(MODEL_KEY_OF[name] for name in resources)],
                tags={REQUESTED_BY: NAME},
            )
        )
        return None

    def _refusal(self, found: PromptSet, resources: tuple[str, ...]) -> str | None:
        """What stands in the way of buying what a set asks for."""
        from segmind_dagster.data_folder import as_found
        from segmind_dagster.runner import Batch, plan_set

        self.settings.require_api_key()
        with as_found(self.settings) as (ledger, _):
            plans = plan_set(ledger, self.settings, Batch(found, resources), is_by_person=False)
            return why_refused(ledger, self.settings, plans, now=datetime.now(UTC))


def _signature(path: Path) -> str:
    """A file's time and size in few characters; empty, and so never the same, when the file is just gone."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return blake2b(f"{status.st_mtime_ns} {status.st_size} {path.suffix}".encode(), digest_size=6).hexdigest()


def _read_cursor(cursor: str | None) -> Mapping[str, str]:
    try:
        found = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
