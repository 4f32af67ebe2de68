"""Schedules; all ship stopped, with their time zone stated."""

from collections.abc import Iterator

import dagster as dg

from segmind_dagster.orchestration.partitions import prompt_sets
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.translator import MODEL_KEYS, PROMPT_SET_KEY

account_refresh = dg.ScheduleDefinition(
    name="account_refresh",
    target=dg.AssetSelection.groups("account"),
    cron_schedule="15 5 * * *",
    execution_timezone="UTC",
    description="Reads balance, request history and models once a day; free of charge.",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)

check_refresh = dg.ScheduleDefinition(
    name="check_refresh",
    target=dg.AssetSelection.checks_for_assets(PROMPT_SET_KEY, *MODEL_KEYS),
    cron_schedule="30 6 * * *",
    execution_timezone="UTC",
    description="Asks the checks of every prompt set and model again once a day, in one run: whether files are still "
    "there and unchanged, prompt files as they were materialized. Reads the ledger and files; free of charge.",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)


@dg.schedule(
    name="prompt_set_refresh",
    target=dg.AssetSelection.groups("prompts", "segmind"),
    cron_schedule="0 6 * * 1",
    execution_timezone="UTC",
    description=(
        "Materializes prompt sets with all their models every Monday at 06:00 UTC: those that SEGMIND_REFRESH_SETS "
        "names, or all. What is owned is not bought again; what is missing or failed free of charge is."
    ),
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def prompt_set_refresh(
    context: dg.ScheduleEvaluationContext, segmind: SegmindResource
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """A run for each chosen prompt set that has a partition."""
    existing = context.instance.get_dynamic_partitions(prompt_sets.name or "")
    chosen = segmind.load().refresh_sets or tuple(sorted(existing))
    found = [key for key in chosen if key in existing]
    if missing := sorted(set(chosen) - set(existing)):
        context.log.warning(f"SEGMIND_REFRESH_SETS names sets that do not exist: {', '.join(missing)}.")
    if not found:
        yield dg.SkipReason("There is no prompt set to refresh.")
    for key in found:
        yield dg.RunRequest(run_key=f"{context.scheduled_execution_time:%Y-%m-%dT%H:%M}/{key}", partition_key=key)
