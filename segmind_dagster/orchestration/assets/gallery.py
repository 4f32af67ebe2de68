"""The gallery asset: a page a prompt set with all its outputs, beside them, and a contact sheet."""

import dagster as dg

from segmind_dagster.orchestration.failures import as_failure
from segmind_dagster.orchestration.metadata import gallery_metadata
from segmind_dagster.orchestration.partitions import prompt_sets
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.translator import GALLERY_KEY, MODEL_KEYS, OWNERS, REFRESHED

_SPEC = dg.AssetSpec(
    GALLERY_KEY,
    partitions_def=prompt_sets,
    deps=MODEL_KEYS,
    group_name="gallery",
    kinds={"html"},
    owners=OWNERS,
    automation_condition=REFRESHED,
    description=(
        "A page with every output of a prompt set, to lay out by prompt, model, seed and variables; and its pictures "
        "as one contact sheet."
    ),
)


# pages are made in seconds: one run for all sets of a backfill, or of a tick of the automation sensor
@dg.multi_asset(name="gallery_page", specs=[_SPEC], backfill_policy=dg.BackfillPolicy.single_run())
def gallery_page(context: dg.AssetExecutionContext, segmind: SegmindResource) -> dg.MaterializeResult[None]:
    """Write the galleries of the prompt sets of this run."""
    from segmind_dagster.data_folder import opened
    from segmind_dagster.reports.gallery import write_gallery

    with as_failure():
        settings = segmind.load()
        with opened(settings) as (ledger, _):
            written = [write_gallery(ledger, settings, key) for key in context.partition_keys]
    if len(written) == 1:
        return dg.MaterializeResult(asset_key=GALLERY_KEY, metadata=gallery_metadata(written[0]))
    for gallery in written:
        context.add_asset_metadata(gallery_metadata(gallery), asset_key=GALLERY_KEY, partition_key=gallery.prompt_set)
    return dg.MaterializeResult(asset_key=GALLERY_KEY)
