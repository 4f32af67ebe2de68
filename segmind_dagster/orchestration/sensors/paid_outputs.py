"""The sensor and the job that collect what was paid for and is not stored.

A job of its own, without partitions, because a prompt set whose file is gone has none, and because fetching what is
paid for waits neither for a budget nor for the back-off of failures. It buys nothing.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import dagster as dg

from segmind_dagster.data_folder import RunContext
from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.ledger import Ledger, sensor_reads
from segmind_dagster.lifecycle.next_step import FIRST_LOOK, KEPT, pause_after
from segmind_dagster.orchestration.asset_partitions import REQUESTED_BY, AssetPartition, partition_keys
from segmind_dagster.orchestration.failures import as_failure
from segmind_dagster.orchestration.loads import recorded_load, recorded_partitions
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.sensors.activity import activity, failures_in_a_row, unfinished_runs
from segmind_dagster.orchestration.sensors.ledger_at_tick import ledger_at_tick, shown
from segmind_dagster.orchestration.translator import MODEL_KEY_OF
from segmind_dagster.registry import MODELS
from segmind_dagster.settings import Settings

NAME = "paid_outputs"
_NAMES = [model.resource for model in MODELS]


@dg.op(
    name="collect_outputs",
    description="Fetches what was paid for and is not stored, whatever prompt set it is for, and loads it. Free.",
    out={},
)
def collect_op(context: dg.OpExecutionContext, segmind: SegmindResource) -> Iterator[dg.AssetCheckEvaluation]:
    """Fetch, load, and record the partitions that are complete by it."""
    from segmind_dagster.data_folder import as_found

    with as_failure():
        settings = segmind.load()
        settings.require_api_key()
        with as_found(settings) as (ledger, _):
            sets = _sets_concerned(ledger)
            partitions = recorded_partitions(ledger, sets)
        if sets:
            problem = yield from _collect_and_load(context, settings, sets, partitions)
        else:
            # what is older than Segmind keeps outputs may still be there
            problem = _collect(context, settings)
        if problem is not None:
            raise problem


def _collect_and_load(
    context: dg.OpExecutionContext, settings: Settings, sets: list[str], partitions: list[AssetPartition]
) -> Generator[dg.AssetCheckEvaluation, None, SegmindDagsterError | None]:
    """What went wrong, if anything did; what was stored before that is loaded."""
    from segmind_dagster.orchestration.checks.models import not_loaded
    from segmind_dagster.source import build_source, load

    problem: SegmindDagsterError | None = None
    try:
        # pending from the start: whatever ends this run, another one loads what it has stored
        with recorded_load(context.instance, context.run_id, also=partitions):
            problem = _collect(context, settings)
            source = build_source(settings, prompt_sets=sets).with_resources(*_NAMES, "attempts")
            load(settings, source, purpose=f"run {context.run_id}", say=context.log.info)
    # whatever dlt or a driver raises: what was collected is stored, and the checks have to say so
    except Exception as error:  # noqa: BLE001  returned, to be raised with what else went wrong
        with closing(RunContext(settings)) as run:
            yield from not_loaded(context, run, partitions)
        said = [_not_loaded(error, sets)] if problem is None else [str(problem), _not_loaded(error, sets)]
        return SegmindDagsterError("\n".join(said))
    _record(context, settings, sets)
    return problem


def _collect(context: dg.OpExecutionContext, settings: Settings) -> SegmindDagsterError | None:
    """Collect, and say in the log what came of it; what stood in the way, if anything did."""
    from segmind_dagster.runner import collect

    try:
        endings = collect(settings, on_progress=lambda progress: context.log.info(progress.line()))
    except SegmindDagsterError as error:
        return error
    counts = Counter(ended.ending for ended in endings.values())
    context.log.info(", ".join(f"{count} {name}" for name, count in counts.items()) or "Nothing to collect.")
    return None


def _not_loaded(error: Exception, sets: list[str]) -> str:
    """What the job says that could not load, whatever dlt or the destination said."""
    return (
        "What was collected is in the ledger and its files are stored, but it could not be loaded: "
        f"{str(error).strip()}\nNot loaded: {shown(sets)}. Nothing is lost, and loading it buys nothing: the sensor "
        "failed_generations runs these sets again; `segmind-dagster reload` loads everything at once, also for sets "
        "without a prompt file."
    )


@dg.job(name="collect", description="Fetches and loads what was paid for and is not stored; buys nothing.")
def collect_job() -> None:
    """One op."""
    collect_op()


def build_paid_outputs(*, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> dg.SensorDefinition:
    """The sensor `paid_outputs`."""

    @dg.sensor(
        name=NAME,
        description="Starts the job `collect` when something was paid for and is not stored: at once when its run is "
        "gone, then ever more rarely, for the seven days that Segmind keeps outputs.",
        job=collect_job,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=60,
    )
    def paid_outputs(context: dg.SensorEvaluationContext, segmind: SegmindResource) -> dg.SensorResult | dg.SkipReason:
        """Ask for one run of the job when something is out of hand."""
        now = clock()
        try:
            settings = segmind.load()
            with ledger_at_tick(settings) as ledger:
                if ledger is None:
                    return dg.SkipReason("Nothing has been generated yet.")
                ready = _ready(ledger, now)
        except SegmindDagsterError as error:
            return dg.SkipReason(str(error))
        why_not = _why_not(context.instance, settings, ready.count, now) if ready.count else ready.note
        if why_not is not None:
            return dg.SkipReason(why_not)
        runs = failures_in_a_row(context.instance, collect_job.name).runs
        request = dg.RunRequest(run_key=f"{ready.digest}/{runs + 1}", tags={REQUESTED_BY: NAME})
        return dg.SensorResult(run_requests=[request])

    return paid_outputs


paid_outputs = build_paid_outputs()


def _why_not(instance: dg.DagsterInstance, settings: Settings, count: int, now: datetime) -> str | None:
    """What stands in the way of a run of the job, if anything does."""
    if settings.api_key is None:
        return f"{count} outputs can be collected, but no API key is set (SEGMIND_API_KEY)."
    if run_id := activity(instance, unfinished_runs(instance), (), now=now).jobs.get(collect_job.name):
        return f"{count} outputs can be collected; run {run_id[:8]} is at it."
    failed = failures_in_a_row(instance, collect_job.name)
    if failed.last_at is not None and (at := failed.last_at + pause_after(failed.runs)) > now:
        return (
            f"{count} outputs can be collected, but {failed.runs} runs have failed in a row; the next run is at "
            f"{at:%Y-%m-%d %H:%M:%S} UTC."
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """What to collect now.

    Args:
        count: generations.
        digest: the same for the same of them, as long as nothing happens to one.
        note: what becomes of the rest, in words.
    """

    count: int
    digest: str
    note: str


def _ready(ledger: Ledger, now: datetime) -> _Ready:
    is_alive = ledger.liveness()
    held = ledger.read(sensor_reads.held)
    abandoned = [each for each in held if not is_alive(each.owner)]
    busy = sum(each.generations for each in held) - sum(each.generations for each in abandoned)
    found = ledger.read(sensor_reads.loose, now=now, first_look=FIRST_LOOK, kept=KEPT)
    loose = {each.look: each for each in found}
    recorded = [f"{each.owner} {each.generations} {each.last_at.isoformat()}" for each in abandoned]
    count = sum(each.generations for each in abandoned)
    if at_once := loose.get("now"):
        count += at_once.generations
        times = (at_once.first_paid_at, at_once.last_looked_at)
        recorded.append(f"{at_once.generations} {' '.join(at.isoformat() for at in times)}")
    notes = []
    if busy:
        notes.append(f"{busy} generations are in the hands of a run.")
    if later := loose.get("later"):
        notes.append(f"{later.generations} are looked for again, the next at {later.next_at:%Y-%m-%d %H:%M:%S} UTC.")
    if gone := loose.get("never"):
        notes.append(f"{gone.generations} are older than Segmind keeps outputs; the asset checks name them.")
    return _Ready(
        count=count,
        digest=sha256("\n".join(recorded).encode()).hexdigest()[:16],
        note=" ".join(notes) or "Everything that was paid for is stored.",
    )


def _sets_concerned(ledger: Ledger) -> list[str]:
    """The prompt sets that hold something to collect."""
    return ledger.read(sensor_reads.sets_out_of_hand, since=datetime.now(UTC) - KEPT)


def _record(context: dg.OpExecutionContext, settings: Settings, sets: list[str]) -> None:
    """Materializations of the partitions in which every generation has its outcome now."""
    from segmind_dagster.data_folder import opened

    exists = set(partition_keys(context.instance))
    with opened(settings) as (ledger, _):
        standings = {key: ledger.read(sensor_reads.standing, key) for key in sets if key in exists}
    for key, by_resource in standings.items():
        for resource, counts in by_resource.items():
            if resource in MODEL_KEY_OF and set(counts) <= {"succeeded", "failed"}:
                context.log_event(
                    dg.AssetMaterialization(
                        asset_key=MODEL_KEY_OF[resource],
                        partition=key,
                        description="Completed by collecting what was paid for.",
                        metadata={f"generations {state}": count for state, count in sorted(counts.items())},
                    )
                )
    missing = [key for key in sets if key not in exists]
    if missing:
        context.log.info(f"Also for prompt sets without a file, whose rows are loaded all the same: {shown(missing)}.")
