"""Puts the Segmind source together: a resource a model, `attempts`, and the account's resources.

In Dagster generation has run before, and the source only reads the ledger. From a plain script the first
model resource asks for it, so that `pipeline.run(segmind_source(prompt_sets=["still_life"]))` does the whole job.
Building a source needs no key, file or network.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import dlt
from dlt.common.configuration.container import Container
from dlt.common.storages.load_package import LoadPackageStateInjectableContext

from segmind_dagster.errors import BudgetError, DatasetOriginError, SegmindDagsterError, interrupted
from segmind_dagster.gateway.redaction import redactor_of
from segmind_dagster.registry import MODELS, find_model
from segmind_dagster.settings import load_settings
from segmind_dagster.source import tables
from segmind_dagster.source.account import account_resources
from segmind_dagster.source.destinations import refuse_to_double
from segmind_dagster.source.rows import attempt_row, model_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dlt.extract.resource import DltResource
    from dlt.extract.source import DltSource

    from segmind_dagster.data_folder import RunContext
    from segmind_dagster.registry import Model
    from segmind_dagster.runner.report import Progress, RunReport
    from segmind_dagster.settings import Settings

LOGGER = logging.getLogger(__name__)
ACCOUNT_RESOURCES = ("credits", "models", "model_changes", "models_page", "models_page_rows", "request_history")
_PAGE_ROWS = 1000


@dlt.source(name="segmind", section="segmind")
def segmind_source(
    prompt_sets: list[str] | None = None, *, models: list[str] | None = None, generate: bool = True
) -> Any:
    """Generations of prompt sets and data about the account, one table a resource.

    Args:
        prompt_sets: keys of the prompt sets to generate and load; all of the prompts folder when omitted.
        models: resource names or slugs; every model of the registry when omitted.
        generate: whether to generate what is missing first; False only loads what the ledger holds.
    """
    return _resources(load_settings, prompt_sets=prompt_sets, models=models, should_generate=generate)


def build_source(
    settings: Settings,
    *,
    prompt_sets: Sequence[str] | None,
    models: Sequence[str] | None = None,
    run: RunContext | None = None,
) -> DltSource:
    """The same source for given settings, reading the ledger only.

    It has a resource for every model, so that every load carries the full schema and no table is missing. For
    `load`, which restores the schema from the destination: a table that is known there needs no job to be made.

    Args:
        settings: which ledger, which account.
        prompt_sets: keys of the sets whose rows are loaded; every row of the ledger when None.
        models: resource names of the models whose rows are loaded; all when None.
        run: what the run has open.
    """

    def segmind() -> Any:
        return _resources(
            lambda: settings,
            prompt_sets=prompt_sets,
            models=None,
            with_rows=models,
            should_generate=False,
            is_restored=True,
            run=run,
        )

    return dlt.source(segmind, name="segmind", section="segmind")()


def _resources(
    settings: Callable[[], Settings],
    *,
    prompt_sets: Sequence[str] | None,
    models: Sequence[str] | None,
    should_generate: bool,
    with_rows: Sequence[str] | None = None,
    is_restored: bool = False,
    run: RunContext | None = None,
) -> list[DltResource]:
    chosen = MODELS if models is None else tuple(find_model(name) for name in models)
    filled = [model for model in chosen if with_rows is None or model.resource in with_rows]
    ledger = _Ledger(settings, chosen, prompt_sets, should_generate, is_restored, run)
    return [
        *(_model_resource(ledger, model, has_rows=model in filled) for model in chosen),
        _attempts_resource(ledger, filled),
        *account_resources(settings),
    ]


@dataclass(slots=True)
class _Ledger:
    """What the resources of one source share: the ledger they read, and what is generated first, once.

    Args:
        settings: which ledger, which account.
        models: what is generated.
        prompt_sets: keys of the sets that are generated and loaded; all when None.
        should_generate: whether anything is generated first.
        is_restored: whether the schema was restored from the destination, so that a table in it needs no job.
        run: what the run has open.
    """

    settings: Callable[[], Settings]
    models: Sequence[Model]
    prompt_sets: Sequence[str] | None
    should_generate: bool
    is_restored: bool
    run: RunContext | None

    def resource(
        self,
        name: str,
        description: str,
        *,
        primary_key: Sequence[str],
        columns: dict[str, Any],
        read: Callable[[Any, Settings], Iterator[dict[str, Any]]] | None,
    ) -> DltResource:
        """A resource of rows that are read through a connection; of none when there is nothing to read."""

        def pages() -> Iterator[Any]:
            from segmind_dagster.data_folder import opened

            if not (self.is_restored and _exists(name, columns)):
                yield dlt.mark.materialize_table_schema()
            if read is None:
                return
            current = self.settings()
            _keep_apart(current.api_origin)
            if self.should_generate:
                self.should_generate = False
                self._generate()
            with opened(current, self.run) as (ledger, _), ledger.reading() as connection:
                rows = read(connection, current)
                while page := list(islice(rows, _PAGE_ROWS)):
                    yield page

        pages.__doc__ = description
        return cast(
            "DltResource",
            dlt.resource(pages, name=name, primary_key=primary_key, write_disposition="merge", columns=columns),
        )

    def _generate(self) -> None:
        refuse_to_double()
        from segmind_dagster.prompts import find_prompt_set, scan_prompts
        from segmind_dagster.runner import Batch, generate

        settings = self.settings()
        keys = self.prompt_sets
        if keys is None:
            keys = list(scan_prompts(settings.prompts_dir).files)
        sets = [
            find_prompt_set(key, prompts_dir=settings.prompts_dir, project_dir=settings.project_dir) for key in keys
        ]
        wanted = tuple(model.resource for model in self.models)
        line = "not begun"

        def say(progress: Progress) -> None:
            nonlocal line
            line = progress.line()
            LOGGER.info(line)

        try:
            report = generate(settings, [Batch(prompt_set, wanted) for prompt_set in sets], on_progress=say)
        except KeyboardInterrupt as stop:
            words = [interrupted(line), *getattr(stop, "__notes__", ())]
            raise KeyboardInterrupt("\n".join(words)) from None
        _raise_if_nothing_came(report)


def _raise_if_nothing_came(report: RunReport) -> None:
    said = report.outstanding.sentence() if report.outstanding else None
    if said is not None:
        # a script that ends well must not end without a word about it, whatever it does with its log
        sys.stderr.write(f"{said}\n")
    for warning in report.warnings:
        if warning != said:
            LOGGER.warning(warning)
    if report.stopped_by is None:
        return
    message = report.stop_message or report.stopped_by
    if not any(model.endings["succeeded"] + model.endings["reused"] for model in report.models):
        raise (BudgetError if report.stopped_by == "over_budget" else SegmindDagsterError)(message)
    # what was generated is loaded: an exception here would lose it for this load
    LOGGER.error(message)


def _model_resource(ledger: _Ledger, model: Model, *, has_rows: bool) -> DltResource:
    def read(connection: Any, settings: Settings) -> Iterator[dict[str, Any]]:
        from segmind_dagster.ledger import reads

        redactor = redactor_of(settings)
        for record in reads.set_rows(connection, resource=model.resource, prompt_sets=ledger.prompt_sets):
            yield model_row(record, api_origin=settings.api_origin, redactor=redactor)

    is_asked_for = ledger.prompt_sets is None or len(ledger.prompt_sets) > 0
    return ledger.resource(
        model.resource,
        f"{model.title}: one row for each generation a prompt set asks for ({model.modality}).",
        primary_key=("prompt_set", "generation_id"),
        columns=tables.MODEL_COLUMNS,
        read=read if has_rows and is_asked_for else None,
    )


def _attempts_resource(ledger: _Ledger, models: Sequence[Model]) -> DltResource:
    def read(connection: Any, settings: Settings) -> Iterator[dict[str, Any]]:
        from segmind_dagster.ledger import reads

        resources = [model.resource for model in models]
        for record in reads.attempt_rows(connection, resources=resources, prompt_sets=ledger.prompt_sets):
            yield attempt_row(record, api_origin=settings.api_origin)

    return ledger.resource(
        "attempts",
        "Every POST sent, with what it cost; spend is summed here.",
        # a dataset is of one API and account, see `_keep_apart`
        primary_key=("generation_id", "attempt"),
        columns=tables.ATTEMPT_COLUMNS,
        read=read,
    )


def _keep_apart(api_origin: str) -> None:
    """Refuse rows of one API or account for a dataset of another: keys are the same for the same prompts.

    Raises:
        DatasetOriginError: the dataset belongs to another; dlt keeps to which with its state, at the destination.
    """
    if LoadPackageStateInjectableContext not in Container():
        return  # nothing is loaded: the rows are only read
    recorded = dlt.current.source_state().setdefault("api_origin", api_origin)
    if recorded != api_origin:
        raise DatasetOriginError(recorded, api_origin)


def _exists(table: str, columns: Mapping[str, Any]) -> bool:
    """Whether the schema that was restored from the destination has the table with all of these columns."""
    known = dlt.current.source_schema().tables.get(table, {}).get("columns", {})
    return set(columns) <= set(known)
