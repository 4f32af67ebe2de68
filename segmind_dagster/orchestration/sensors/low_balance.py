"""The sensor that says when the account is running out: from the balance as it was last recorded."""

import dagster as dg

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.ledger import sensor_reads
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.sensors.ledger_at_tick import ledger_at_tick


@dg.sensor(
    name="low_balance",
    description="Says in its ticks and its log when the account, as a run last saw it, holds little. Starts nothing.",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=600,
)
def low_balance(context: dg.SensorEvaluationContext, segmind: SegmindResource) -> dg.SkipReason:
    """Compare the last recorded balance with the threshold."""
    try:
        settings = segmind.load()
        with ledger_at_tick(settings) as ledger:
            last = ledger.read(sensor_reads.balance) if ledger is not None else None
    except SegmindDagsterError as error:
        return dg.SkipReason(str(error))
    if last is None:
        return dg.SkipReason("No balance is recorded yet; every run that buys, and the `credits` asset, records it.")
    held = f"The account held ${last.balance_usd:.4f} at {last.observed_at:%Y-%m-%d %H:%M:%S} UTC"
    if last.balance_usd >= settings.low_balance_usd:
        return dg.SkipReason(f"{held}.")
    warning = f"{held}, less than ${settings.low_balance_usd} (SEGMIND_LOW_BALANCE_USD): top it up, or runs will stop."
    context.log.warning(warning)
    return dg.SkipReason(warning)
