"""What was asked, spent and received: durable before and after every step that costs money.

`store` opens a ledger: `schema` holds the tables, `migrations` their history, `ledger_file` checks that the file is
still the one that was opened, `database_errors` translates errors. Writing: `commits` is the group-committing writer,
`batching` lets many callers share one operation, `claims` and `statements` are the parts of operations; `entries`
records what sets ask for, `moves` the states of every bought generation, `writes` all other state changes, `money`
reservations and charges, `costs` what the history reports later, `leases` which runs are alive, `rate` the account's
shared rate limit; `restoring` gives a lost ledger its rows back. Reading: `reads` is for runs,
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
