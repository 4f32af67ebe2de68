"""The checks of the model assets: what a model has made of a prompt set, and what Segmind still has to give."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import dagster as dg

from segmind_dagster.checks import outcomes as judged
from segmind_dagster.checks.completeness import completeness
from segmind_dagster.checks.outcomes import CheckOutcome
from segmind_dagster.data_folder import RunContext
from segmind_dagster.errors import PromptSetError
from segmind_dagster.ledger import Ledger, check_reads, reads
from segmind_dagster.lifecycle.failures import policy_of
from segmind_dagster.lifecycle.generation import Generation
from segmind_dagster.lifecycle.matching import ABSENT_REVIEW
from segmind_dagster.lifecycle.next_step import UNCOUNTED
from segmind_dagster.orchestration.asset_partitions import AssetPartition
from segmind_dagster.orchestration.checks.results import (
    EVERY_MORNING,
    checked_sets,
    expect_evaluations,
    partitioned,
    partitioned_spec,
    whole,
)
from segmind_dagster.orchestration.failures import as_failure
from segmind_dagster.orchestration.loads import unloaded
from segmind_dagster.orchestration.resources import SegmindRunResource
from segmind_dagster.orchestration.sensors.activity import unfinished_runs
from segmind_dagster.orchestration.translator import MODEL_KEYS, asset_key
from segmind_dagster.reports.reconciliation import paid_twice

if TYPE_CHECKING:
    from segmind_dagster.outputs import OutputStore

_OPEN: Final = "all_stored"
_WAITING: Final = "nothing_about_to_expire"


@dataclass(frozen=True, slots=True)
class _CheckInputs:
    """What the questions of one run share: the ledger, the time, what is not loaded, and the budgets in the files."""

    run: RunContext
    ledger: Ledger
    outputs: "OutputStore"
    now: datetime
    unloaded: Mapping[AssetPartition, str]
    _budgets: dict[str, tuple[Decimal | None, str | None]] = field(default_factory=dict)
    _quarantined: dict[str, dict[str, str]] = field(default_factory=dict)

    def quarantined(self, resource: str, rows: Iterable[Generation]) -> dict[str, str]:
        """By generation, the address of a refused file; only looked for where something failed that may be paid."""
        if not any(row.state == "failed" and policy_of(row.failure_kind).may_be_paid for row in rows):
            return {}
        if resource not in self._quarantined:
            found = self.outputs.quarantine.found(resource)
            self._quarantined[resource] = {each.generation_id: each.uri for each in found}
        return self._quarantined[resource]

    def budget(self, key: str) -> tuple[Decimal | None, str | None]:
        """A prompt set's budget, and why its file cannot tell, if so."""
        if key not in self._budgets:
            try:
                found = self.run.prompt_set(key)
                self._budgets[key] = found.budget_usd, None
            except PromptSetError as error:
                self._budgets[key] = None, str(error.problems[0])
        return self._budgets[key]


def _all_stored(inputs: _CheckInputs, resource: str, key: str) -> CheckOutcome:
    asked_for, rows = inputs.ledger.read(
        check_reads.open_rows,
        resource=resource,
        prompt_set=key,
        is_alive=inputs.ledger.liveness(),
        uncounted_kinds=UNCOUNTED,
    )
    found = completeness(
        asked_for, rows, prompt_set=key, now=inputs.now, quarantined=inputs.quarantined(resource, rows)
    )
    run_id = inputs.unloaded.get((key, asset_key(resource)))
    return found if run_id is None else judged.not_loaded(found, run_id=run_id)


def _files_match(inputs: _CheckInputs, resource: str, key: str) -> CheckOutcome:
    from segmind_dagster.outputs.inspection import inspect

    rows = inputs.ledger.read(check_reads.stored_rows, resource=resource, prompt_set=key)
    # another sample each day
    return judged.files(inspect(rows, seed=f"{key}/{resource}/{inputs.now.date().isoformat()}"))


def _spend_under_budget(inputs: _CheckInputs, resource: str, key: str) -> CheckOutcome:
    budget_usd, problem = inputs.budget(key)
    day = inputs.now.date().isoformat()
    return judged.budget(
        prompt_set=key,
        budget_usd=budget_usd,
        committed_usd=inputs.ledger.read(reads.spent, run_id=None, day=day, prompt_set=key).set_usd,
        of_model_usd=inputs.ledger.read(check_reads.charged_for, resource=resource, prompt_set=key),
        problem=problem,
    )


def _charged_once(inputs: _CheckInputs, resource: str, key: str) -> CheckOutcome:
    charges = inputs.ledger.read(check_reads.charged_again, resource=resource, prompt_set=key)
    since = inputs.now - ABSENT_REVIEW
    inferred = inputs.ledger.read(reads.inferred_absent, since=since, resource=resource, prompt_set=key)
    return judged.charged_once(paid_twice(charges), inferred=inferred)


_QUESTIONS: Final[Mapping[str, tuple[str, Callable[[_CheckInputs, str, str], CheckOutcome]]]] = {
    _OPEN: (
        "All that the prompt set asks of the model is stored and loaded: nothing failed, unknown or left out.",
        _all_stored,
    ),
    "files_match": (
        (
            "Every stored output is there, with the size and digest it was stored with. Beyond 5000 files or 256 MB a "
            "sample is read, and of those in a bucket one, another each day."
        ),
        _files_match,
    ),
    "spend_under_budget": ("The prompt set keeps to its `budget_usd`; a warning from 80 %.", _spend_under_budget),
    "charged_once": (judged.CHARGED_ONCE, _charged_once),
}


@dg.multi_asset_check(
    name="segmind_model_checks",
    specs=[
        partitioned_spec(name, asset=key, description=description)
        for key in MODEL_KEYS
        for name, (description, _) in _QUESTIONS.items()
    ],
    can_subset=True,
)
def model_checks(
    context: dg.AssetCheckExecutionContext, segmind_run: SegmindRunResource
) -> Iterator[dg.AssetCheckEvaluation]:
    """What a model has made of a prompt set."""
    expect_evaluations(context)
    with as_failure():
        inputs = _check_inputs(segmind_run.context(), _not_loaded(context.instance))
        found = _ask(inputs, context.selected_asset_check_keys, checked_sets(context))
    yield from partitioned(context.instance, found)


@dg.multi_asset_check(
    name="segmind_outputs_waiting",
    specs=[
        dg.AssetCheckSpec(
            _WAITING,
            asset=key,
            description="Nothing that was ordered, by any prompt set, has waited at Segmind for 5 of its 7 days.",
            automation_condition=EVERY_MORNING,
        )
        for key in MODEL_KEYS
    ],
    can_subset=True,
)
def outputs_waiting(
    context: dg.AssetCheckExecutionContext, segmind_run: SegmindRunResource
) -> Iterator[dg.AssetCheckEvaluation]:
    """What Segmind still has to give; of all prompt sets, also those whose file is gone."""
    expect_evaluations(context)
    with as_failure():
        inputs = _check_inputs(segmind_run.context())
        found = {check: _waiting(inputs, check.asset_key) for check in sorted(context.selected_asset_check_keys)}
    yield from whole(found)


def follow_up(
    context: dg.AssetExecutionContext,
    run: RunContext,
    resources: Iterable[str],
    keys: Sequence[str],
    *,
    is_loaded: bool,
) -> Iterator[dg.AssetCheckEvaluation]:
    """The results of all checks of a run that is about to fail, whose check steps will be skipped.

    Args:
        context: of the run.
        run: what the run has open.
        resources: the models it was for.
        keys: the prompt sets it was for.
        is_loaded: whether what it has generated came to the warehouse.
    """
    assets = [asset_key(resource) for resource in resources]
    not_loaded = {} if is_loaded else {(key, asset): context.run_id for key in keys for asset in assets}
    inputs = _check_inputs(run, not_loaded)
    found = _ask(inputs, [dg.AssetCheckKey(asset, name) for asset in assets for name in _QUESTIONS], keys)
    waiting = {dg.AssetCheckKey(asset, _WAITING): _waiting(inputs, asset) for asset in assets}
    yield from partitioned(context.instance, found)
    yield from whole(waiting)


def not_loaded(
    context: dg.OpExecutionContext, run: RunContext, partitions: Iterable[AssetPartition]
) -> Iterator[dg.AssetCheckEvaluation]:
    """The results of `all_stored` for what a run has stored and could not load."""
    found: defaultdict[dg.AssetCheckKey, dict[str, CheckOutcome]] = defaultdict(dict)
    inputs = _check_inputs(run, dict.fromkeys(partitions, context.run_id))
    for key, asset in inputs.unloaded:
        found[dg.AssetCheckKey(asset, _OPEN)][key] = _all_stored(inputs, asset.path[-1], key)
    yield from partitioned(context.instance, found)


def _check_inputs(run: RunContext, not_loaded: Mapping[AssetPartition, str] | None = None) -> _CheckInputs:
    ledger, outputs = run.folder()
    return _CheckInputs(run, ledger, outputs, datetime.now(UTC), not_loaded or {})


def _not_loaded(instance: dg.DagsterInstance) -> dict[AssetPartition, str]:
    at_work = {run.run_id for run in unfinished_runs(instance)}
    return {partition: tried.run_id for partition, tried in unloaded(instance, at_work=at_work).items()}


def _ask(
    inputs: _CheckInputs, checks: Iterable[dg.AssetCheckKey], keys: Sequence[str]
) -> dict[dg.AssetCheckKey, dict[str, CheckOutcome]]:
    return {
        check: {key: _QUESTIONS[check.name][1](inputs, check.asset_key.path[-1], key) for key in keys}
        for check in sorted(checks)
    }


def _waiting(inputs: _CheckInputs, asset: dg.AssetKey) -> CheckOutcome:
    rows = inputs.ledger.read(check_reads.waiting_rows, resource=asset.path[-1])
    return judged.about_to_expire(rows, now=inputs.now)
