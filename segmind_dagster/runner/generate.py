"""The entry point: from prompt sets to a report, through plan, ledger and engine; blocking, for assets and scripts.

What to do is decided in `planning` and done by `engine` inside `loop`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from segmind_dagster.data_folder import as_found, opened
from segmind_dagster.errors import LedgerOutdatedError, SegmindDagsterError
from segmind_dagster.ledger import Caps, entries, reads, writes
from segmind_dagster.ledger.rate import current_rate
from segmind_dagster.lifecycle.next_step import UNCOUNTED
from segmind_dagster.planning import Plan, apply_caps, make_plan
from segmind_dagster.runner.backlog import left_behind, planned
from segmind_dagster.runner.clock import SystemClock
from segmind_dagster.runner.lease import watch_leases
from segmind_dagster.runner.lookup import COLLECT_STAYS_OPEN
from segmind_dagster.runner.loop import work_through
from segmind_dagster.runner.outstanding import outstanding, warned_about_outstanding
from segmind_dagster.runner.prices import unit_costs
from segmind_dagster.runner.report import Ended, ModelReport, Progress, RunReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from segmind_dagster.data_folder import RunContext
    from segmind_dagster.ledger import Ledger
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.outputs import OutputStore
    from segmind_dagster.prompts import PromptSet
    from segmind_dagster.runner.ports import ClockPort
    from segmind_dagster.settings import Settings

_EXAMPLES = 5
_LOOKS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Batch:
    """What a run is asked to generate: some models of one prompt set.

    Args:
        prompt_set: the set.
        resources: resource names of the models; those the set is not aimed at come out empty.
    """

    prompt_set: PromptSet
    resources: tuple[str, ...]


def plan_set(
    ledger: Ledger,
    settings: Settings,
    batch: Batch,
    *,
    is_by_person: bool = True,
    clock: ClockPort | None = None,
) -> list[Plan]:
    """Plan one batch: one plan a model. Nothing is recorded and nothing is sent."""
    return _plans(ledger, settings, [batch], run_id=None, is_by_person=is_by_person, clock=clock or SystemClock())


def _plans(
    ledger: Ledger,
    settings: Settings,
    batches: Sequence[Batch],
    *,
    run_id: str | None,
    is_by_person: bool,
    clock: ClockPort,
) -> list[Plan]:
    """Plans of one run, under its caps in total."""
    now = clock.now()
    per_minute = ledger.read(current_rate, per_minute=settings.requests_per_minute, now=now, at_s=clock.monotonic())
    is_alive = ledger.liveness(clock.monotonic())
    caps = {batch.prompt_set.key: _caps(batch.prompt_set, settings) for batch in batches}
    spent = {key: ledger.read(reads.spent, run_id=run_id, day=now.date().isoformat(), prompt_set=key) for key in caps}
    plans = []
    for batch in batches:
        for resource in batch.resources:
            asked = batch.prompt_set.generations_of(resource)
            slugs = sorted({generation.model.slug for generation in asked})
            plan = make_plan(
                prompt_set=batch.prompt_set.key,
                resource=resource,
                asked=asked,
                known=ledger.read(
                    reads.snapshot,
                    [each.generation_id for each in asked],
                    is_alive=is_alive,
                    uncounted_kinds=None if is_by_person else UNCOUNTED,
                ),
                unit_costs=unit_costs(ledger, slugs),
                caps=caps[batch.prompt_set.key],
                requests_per_minute=per_minute,
                is_by_person=is_by_person,
            )
            plans.append(plan)
    return apply_caps(plans, caps=caps, spent=spent)


def generate(
    settings: Settings,
    batches: Sequence[Batch],
    *,
    run_id: str | None = None,
    is_by_person: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
    clock: ClockPort | None = None,
    run: RunContext | None = None,
) -> RunReport:
    """Generate what the batches ask for and the ledger does not hold yet; collect what was paid for earlier.

    Args:
        settings: where, with which key and limits.
        batches: what is asked for.
        run_id: Dagster's id of the run.
        is_by_person: whether a person asked for it, rather than a sensor.
        on_progress: called every few seconds, and at the end.
        clock: the time.
        run: what the run has open and goes on to use.

    Raises:
        SettingsError: there is no key.
        LedgerError: the data folder cannot be used.
    """
    settings.require_api_key()
    clock = clock or SystemClock()
    with opened(settings, run) as (ledger, outputs):
        outputs.check_writable()
        outputs.sweep()
        for batch in batches:
            for resource in batch.resources:
                _register(ledger, batch.prompt_set, resource, clock)
        plans = _plans(ledger, settings, batches, run_id=run_id, is_by_person=is_by_person, clock=clock)
        _reopen(ledger, plans, clock)
        generations: dict[str, Generation] = {}
        caps = {batch.prompt_set.key: _caps(batch.prompt_set, settings) for batch in batches}
        for plan in plans:
            for generation in planned(plan):
                # two sets may contain the same generation: the first one buys it
                generations.setdefault(generation.generation_id, generation)
        _refuse_to_buy_what_is_stored(ledger, outputs, settings, generations.values())
        orphans = left_behind(ledger, clock, known=generations.keys())
        everything = [*orphans, *generations.values()]
        ids = [generation.generation_id for generation in everything]
        with warned_about_outstanding(ledger, ids):
            endings, engine = work_through(
                settings, ledger, outputs, everything,
                run_id=run_id, is_by_person=is_by_person, on_progress=on_progress, clock=clock,
                prompt_files={batch.prompt_set.key: batch.prompt_set.path for batch in batches},
            )  # fmt: skip
        left = outstanding(ledger, ids)
        remarks = tuple(ended.remark for ended in endings.values() if ended.remark)[:_EXAMPLES]
        unfinished = [left.sentence()] if left else []
        exceeded = _exceeded(ledger, caps, run_id=run_id, now=clock.now())
        warnings = (*unfinished, *exceeded, *engine.warnings, *remarks)
        aimed_at = {batch.prompt_set.key: {model.resource for model in batch.prompt_set.models} for batch in batches}
        models = tuple(_report(plan, generations, endings, aimed_at[plan.prompt_set]) for plan in plans)
    refusals = [plan.refusal for plan in plans if plan.refusal]
    messages = list(dict.fromkeys([*engine.admission.messages, *refusals]))
    return RunReport(
        models=models,
        stopped_by=engine.admission.stopped_by
        or ("terminated" if engine.admission.message else None)
        or ("over_budget" if refusals or engine.admission.held_sets else None)
        or next((kind for kind, _ in engine.admission.held_models.values()), None),
        stop_message="\n".join(messages) or None,
        elapsed_s=engine.progress.elapsed_s,
        warnings=warnings,
        outstanding=left,
        also_collected=frozenset(generation.prompt_set for generation in orphans),
    )


def collect(
    settings: Settings,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    clock: ClockPort | None = None,
) -> dict[str, Ended]:
    """Fetch everything that was paid for and is not stored, whatever set it is for; buy nothing.

    Returns how each generation ended.
    """
    settings.require_api_key()
    clock = clock or SystemClock()
    with as_found(settings) as (ledger, outputs):
        watch_leases(ledger, clock)
        orphans = left_behind(ledger, clock, known=frozenset(), also_paid=True)
        endings, engine = work_through(
            settings, ledger, outputs, orphans,
            run_id=None, is_by_person=True, on_progress=on_progress, clock=clock, stays_open=COLLECT_STAYS_OPEN,
        )  # fmt: skip
    if engine.admission.message:
        raise SegmindDagsterError(engine.admission.message)
    return endings


def _exceeded(ledger: Ledger, caps: Mapping[str, Caps], *, run_id: str | None, now: datetime) -> tuple[str, ...]:
    """Warnings for caps that were exceeded because Segmind charged more than expected."""
    day = now.date().isoformat()
    found: dict[str, None] = {}
    for key, of_set in caps.items():
        spent = ledger.read(reads.spent, run_id=run_id, day=day, prompt_set=key)
        for whose, cap_usd, spent_usd in (
            (f"Prompt set '{key}' has cost ${{}}, more than its `budget_usd`", of_set.set_usd, spent.set_usd),
            ("This run has cost ${}, more than SEGMIND_RUN_BUDGET_USD", of_set.run_usd, spent.run_usd),
            (f"On {day} (UTC) ${{}} were spent, more than SEGMIND_DAILY_BUDGET_USD", of_set.day_usd, spent.day_usd),
        ):
            if cap_usd is not None and spent_usd > cap_usd:
                exceeded = whose.format(f"{spent_usd:.4f}")
                found[f"{exceeded} of ${cap_usd}: a generation cost more than was known beforehand."] = None
    return tuple(found)


def _caps(prompt_set: PromptSet, settings: Settings) -> Caps:
    return Caps(
        set_usd=prompt_set.budget_usd,
        run_usd=settings.run_budget_usd,
        day_usd=settings.daily_budget_usd,
        max_unit_usd=prompt_set.max_unit_cost_usd,
    )


def _register(ledger: Ledger, prompt_set: PromptSet, resource: str, clock: ClockPort) -> None:
    ledger.write(
        entries.register_set,
        prompt_set=prompt_set.key,
        resource=resource,
        generations=[_row(generation) for generation in prompt_set.generations_of(resource)],
        now=clock.now(),
    )


def _row(generation: Generation) -> dict[str, Any]:
    return {
        "generation_id": generation.generation_id,
        "model_slug": generation.model.slug,
        "prompt": generation.prompt,
        "negative_prompt": generation.negative_prompt,
        "body": dict(generation.body),
        "images": {name: image.sha256 for name, image in generation.images.items()},
        "variables": dict(generation.variables),
        "seed": generation.seed,
        "sample": generation.sample,
    }


def _reopen(ledger: Ledger, plans: Sequence[Plan], clock: ClockPort) -> None:
    """Reopen unpaid failures, to buy them again."""
    retried = {
        generation.generation_id: (generation.failure_kind, generation.attempts)
        for plan in plans
        if not plan.refusal
        for generation in plan.generations
        if generation.is_retry
    }
    if retried:
        ledger.write(writes.reopen, retried, target="planned", now=clock.now())


def _refuse_to_buy_what_is_stored(
    ledger: Ledger, outputs: OutputStore, settings: Settings, generations: Iterable[Generation]
) -> None:
    """Raise when the ledger is older than the outputs, as after a restored backup."""
    to_buy = [generation for generation in generations if generation.is_to_buy]
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        stored = pool.map(lambda generation: outputs.holds(generation.model.resource, generation.generation_id), to_buy)
        found = [generation.generation_id for generation, is_stored in zip(to_buy, stored, strict=True) if is_stored]
    # reread: another run may have stored some of these since this run was planned
    now = ledger.read(reads.snapshot, found, is_alive=lambda *_: False) if found else {}
    if found := [generation_id for generation_id in found if now[generation_id].state in {"planned", "failed"}]:
        raise LedgerOutdatedError(found, settings.outputs_url)


def _report(
    plan: Plan,
    bought_for: Mapping[str, Generation],
    endings: Mapping[str, Ended],
    aimed_at: set[str],
) -> ModelReport:
    counts: Counter[Any] = Counter()
    failures: Counter[str] = Counter()
    examples: defaultdict[str, list[str]] = defaultdict(list)
    latencies_ms: list[int] = []
    pictures: list[tuple[str, str]] = []
    cost_usd = estimated_usd = saved_usd = Decimal(0)
    folder: str | None = None
    reused_unpriced = 0
    for generation in plan.generations:
        ended = endings.get(generation.generation_id) or Ended("held_back", "over_budget", plan.refusal)
        if ended.ending == "succeeded" and bought_for[generation.generation_id].prompt_set != plan.prompt_set:
            ended = Ended("reused", saved_usd=ended.cost_usd, output_uri=ended.output_uri)
        counts[ended.ending] += 1
        cost_usd += ended.cost_usd
        if ended.is_estimated:
            estimated_usd += ended.cost_usd
        if ended.ending == "reused":
            saved_usd += ended.saved_usd or 0
            reused_unpriced += ended.saved_usd is None
        if ended.latency_ms is not None:
            latencies_ms.append(ended.latency_ms)
        if ended.output_uri:
            folder = ended.output_uri.rpartition("/")[0]
        if ended.output_uri and generation.model.output == "image":
            pictures.append((ended.output_uri, generation.prompt))
        if ended.failure_kind and ended.ending in {"failed", "unknown"}:
            failures[ended.failure_kind] += 1
            examples[ended.failure_kind].append(f"{generation.prompt[:80]!r}: {ended.error}")
    return ModelReport(
        prompt_set=plan.prompt_set,
        resource=plan.resource,
        endings=counts,
        failures=failures,
        examples=tuple(example for found in examples.values() for example in found)[:_EXAMPLES],
        cost_usd=cost_usd,
        estimated_usd=estimated_usd,
        saved_usd=saved_usd,
        reused_unpriced=reused_unpriced,
        reason=None if plan.resource in aimed_at else f"'{plan.prompt_set}' is not aimed at {plan.resource}.",
        latencies_ms=tuple(latencies_ms),
        pictures=tuple(pictures),
        folder=folder,
    )
