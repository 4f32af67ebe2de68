"""Schedules; all ship stopped, with their time zone stated."""

import dagster as dg

account_refresh = dg.ScheduleDefinition(
    name="account_refresh",
    target=dg.AssetSelection.groups("account"),
    cron_schedule="15 5 * * *",
    execution_timezone="UTC",
    description="Reads balance, request history and models once a day; free of charge.",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
