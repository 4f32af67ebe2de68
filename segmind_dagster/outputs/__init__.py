"""The bytes: verified, written whole or not at all, one copy a generation.

`formats` tells what bytes are, `verify` whether they may be kept, `provenance` says where they came from,
`store` puts them in place, `inspection` looks whether they still are what they were.
Where bytes come from is `gateway`'s business, what they cost is `ledger`'s.
"""

from segmind_dagster.outputs.store import OutputStore, Stored

__all__ = ["OutputStore", "Stored"]
