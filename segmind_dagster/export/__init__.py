"""A prompt set as a dataset for others: what goes in (`rows`), whole files (`files`), how they lie (`layouts`).

`export` is the way in.

Reads the ledger and the stored outputs; needs no key, no network but that of a bucket, and no warehouse.
"""

from segmind_dagster.export.export import Exported, Format, export_set

__all__ = ["Exported", "Format", "export_set"]
