"""What was asked, spent and received: durable before and after every step that costs money.

`store` opens it all: `schema` the tables, `migrations` their history, `ledger_file` whether the file is still the one
that was opened, `database_errors` the database's errors in our words. Writing: `commits` is the group-committing
writer, `batching` lets many callers share one operation, `claims` and `statements` are what operations are made of;
`entries` is what runs enter, `moves` what becomes of every bought generation, `writes` what becomes of the others,
`money` what is reserved and charged, `costs` what the history reports of money later, `leases` who is still there,
`rate` the account's shared limit, `restoring` gives a lost ledger its rows back. Reading: `reads` is for runs,
`sensor_reads` for sensors, `check_reads` for checks; `records` holds the values.
Nothing here speaks HTTP or decides what to buy: that is `gateway` and `planning`.
"""

from segmind_dagster.ledger.records import Spent
from segmind_dagster.ledger.store import Ledger, is_absent, open_ledger, shown
from segmind_dagster.lifecycle.budget import Caps
from segmind_dagster.lifecycle.generation import Claim
from segmind_dagster.lifecycle.states import State

__all__ = [
    "Caps",
    "Claim",
    "Ledger",
    "Spent",
    "State",
    "is_absent",
    "open_ledger",
    "shown",
]
