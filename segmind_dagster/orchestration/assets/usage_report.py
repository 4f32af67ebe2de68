"""The usage report: the summaries as one page with charts, for people who do not open Dagster."""

import dagster as dg

from segmind_dagster.orchestration.failures import as_failure
from segmind_dagster.orchestration.metadata import report_metadata
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.translator import OWNERS, REFRESHED, REPORT_KEY, asset_key
from segmind_dagster.reports.account_totals import COMPARED
from segmind_dagster.reports.usage_report import SUMMARIES, write_usage_report


@dg.asset(
    key=REPORT_KEY,
    deps=[asset_key(name) for name in (*SUMMARIES, *COMPARED)],
    group_name="usage",
    kinds={"html"},
    owners=OWNERS,
    automation_condition=REFRESHED,
    description="One page with charts of what was asked for, made and spent; it needs no network.",
)
def usage_report(segmind: SegmindResource) -> dg.MaterializeResult[None]:
    """Write the report."""
    with as_failure():
        report = write_usage_report(segmind.load())
    return dg.MaterializeResult(metadata=report_metadata(report))
