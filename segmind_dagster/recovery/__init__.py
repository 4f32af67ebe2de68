"""Rebuilds a ledger that was lost, free of charge: nothing is bought, nothing is deleted, nothing is overwritten.

`sidecars` reads what stands beside and inside outputs, `files` says which outputs may count as owned, `requests` asks
Segmind's history, `inputs`, `joining` and `memberships` make ledger rows of it all (`names` where nothing better is
known), `rebuild` is the way in, `report` tells. What the warehouse remembers is read by `source.restore`; how rows are
entered is `ledger.restoring`'s business.
"""

from segmind_dagster.recovery.rebuild import rebuild
from segmind_dagster.recovery.report import Rebuilt

__all__ = ["Rebuilt", "rebuild"]
