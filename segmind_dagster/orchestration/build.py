"""Composes the definitions of the code location; what tests replace is an argument, so that they patch nothing."""

from __future__ import annotations

import dagster as dg
from dagster_dlt import DagsterDltResource

from segmind_dagster.orchestration.assets.account import build_account_assets
from segmind_dagster.orchestration.assets.gallery import gallery_page
from segmind_dagster.orchestration.assets.models import build_model_assets
from segmind_dagster.orchestration.assets.prompt_sets import prompt_set
from segmind_dagster.orchestration.assets.spend import build_spend_assets
from segmind_dagster.orchestration.assets.usage import build_usage_assets
from segmind_dagster.orchestration.assets.usage_report import usage_report
from segmind_dagster.orchestration.checks import CHECKS
from segmind_dagster.orchestration.resources import SegmindResource, SegmindRunResource
from segmind_dagster.orchestration.schedules import account_refresh, check_refresh, prompt_set_refresh
from segmind_dagster.orchestration.sensors import (
    collect_job,
    failed_generations,
    low_balance,
    paid_outputs,
    prompt_files,
)
from segmind_dagster.settings import load_backfill

_POLICIES = {"runs": None, "single_run": dg.BackfillPolicy.single_run()}


def build_definitions(
    *,
    segmind: SegmindResource | None = None,
    backfill_policy: dg.BackfillPolicy | None = None,
) -> dg.Definitions:
    """The code location.

    Args:
        segmind: where Segmind, prompts and data are; from the environment when omitted.
        backfill_policy: how a backfill over many prompt sets becomes runs; as `SEGMIND_BACKFILL` says when omitted.
    """
    segmind = segmind or SegmindResource()
    return dg.Definitions(
        assets=[
            prompt_set,
            build_model_assets(backfill_policy=backfill_policy or _POLICIES[load_backfill()]),
            build_account_assets(),
            build_usage_assets(),
            build_spend_assets(),
            usage_report,
            gallery_page,
        ],
        asset_checks=CHECKS,
        sensors=[
            prompt_files,
            failed_generations,
            paid_outputs,
            low_balance,
            dg.AutomationConditionSensorDefinition(
                "automation",
                target=dg.AssetSelection.all(),
                description="Refreshes summaries, reconciliation, galleries and the usage report when what they are "
                "made of changes; daily checks.",
                default_status=dg.DefaultSensorStatus.RUNNING,
            ),
        ],
        jobs=[collect_job],
        schedules=[account_refresh, check_refresh, prompt_set_refresh],
        resources={
            "dlt": DagsterDltResource(),
            "segmind": segmind,
            "segmind_run": SegmindRunResource(segmind=segmind),
        },
        # a run is one step that works and a few that look: a process for each would only add to its start-up
        executor=dg.in_process_executor,
    )
