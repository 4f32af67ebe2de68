"""The bytes: verified, written whole or not at all, one copy a generation.

`verify` tells what bytes are and whether they may be kept, `jpeg` whether the commonest kind is undamaged,
`provenance` says where they came from, `store` puts them in place with the help of `files`, `inspection` looks whether
they still are what they were.
Where bytes come from is `gateway`'s business, what they cost is `ledger`'s.
"""

from segmind_dagster.outputs.store import OutputStore, Stored

__all__ = ["OutputStore", "Stored"]
