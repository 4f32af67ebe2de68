"""The checks of the account assets: whether data is as fresh as the schedule promises, and the page understood.

Not a freshness policy: that would complain for ever once the schedule is switched off.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from segmind_dagster.checks.outcomes import loaded_lately, page_understood
from segmind_dagster.orchestration.checks.results import EVERY_MORNING, expect_evaluations, whole
from segmind_dagster.orchestration.schedules import account_refresh
from segmind_dagster.orchestration.translator import asset_key
from segmind_dagster.reports.account import MODELS_ON_THE_PAGE

# the schedule's day, and time for its run to finish
_WITHIN: Final = timedelta(hours=26)
_PAGE: Final = dg.AssetCheckKey(asset_key("models_page_rows"), "page_understood")


@dg.multi_asset_check(
    name="segmind_account_checks",
    specs=[
        dg.AssetCheckSpec(
            "loaded_lately",
            asset=asset_key(name),
            description=f"Loaded within 26 hours while the schedule `{account_refresh.name}` is on.",
            automation_condition=EVERY_MORNING,
        )
        for name in ("credits", "request_history")
    ]
    + [
        dg.AssetCheckSpec(
            _PAGE.name, asset=_PAGE.asset_key, description="The models page, made for people, could be read as rows."
        )
    ],
    can_subset=True,
)
def account_checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckEvaluation]:
    """How old the account's data is, and whether the page was understood."""
    expect_evaluations(context)
    # an instance in memory keeps no schedules
    states = context.instance.all_instigator_state() if context.instance.schedule_storage else []
    is_running = any(state.is_running and state.name == account_refresh.name for state in states)
    found = {}
    for check in sorted(context.selected_asset_check_keys):
        event = context.instance.get_latest_materialization_event(check.asset_key)
        if check == _PAGE:
            recorded = event.asset_materialization.metadata if event and event.asset_materialization else {}
            models = recorded.get(MODELS_ON_THE_PAGE)
            found[check] = page_understood(models.value if isinstance(models, dg.IntMetadataValue) else None)
            continue
        found[check] = loaded_lately(
            loaded_at=datetime.fromtimestamp(event.timestamp, UTC) if event else None,
            now=datetime.now(UTC),
            within=_WITHIN,
            is_schedule_running=is_running,
            schedule=account_refresh.name,
        )
    yield from whole(found)
