"""The bytes: verified, written whole or not at all, one copy a generation.

`verify` tells what bytes are and whether they may be kept, `jpeg` whether the commonest kind is undamaged,
`provenance` says where they came from, `store` puts them in place with the help of `files` and `folder`, `quarantine`
keeps what was paid for and refused, `inspection` looks whether outputs still are what they were.
Where bytes come from is `gateway`'s business, what they cost is `ledger`'s.
"""

from segmind_dagster.outputs.quarantine import Quarantined
from segmind_dagster.outputs.store import OutputStore

__all__ = ["OutputStore", "Quarantined"]
