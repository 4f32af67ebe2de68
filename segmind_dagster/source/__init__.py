"""The Segmind dlt source: settled ledger rows and the account's own endpoints, to any dlt destination.

`source` puts the resources together, `tables` names their columns, `rows` makes rows of ledger records (`long_texts`
fits them in), `account` asks Segmind about the account: its request `history` step by step, its models `page` and how
the `catalogue` drifts. `destinations` finds the warehouse (`lake` when that is a folder or a bucket), `pipeline` runs a
load, `locks` lets one loader at a time, `restore` reads back what earlier loads wrote.
Generation is `runner`'s business: a plain script's first resource only asks for it.
"""

from segmind_dagster.source.destinations import check_destination
from segmind_dagster.source.pipeline import load, segmind_pipeline
from segmind_dagster.source.source import ACCOUNT_RESOURCES, build_source, segmind_source

__all__ = ["ACCOUNT_RESOURCES", "build_source", "check_destination", "load", "segmind_pipeline", "segmind_source"]
