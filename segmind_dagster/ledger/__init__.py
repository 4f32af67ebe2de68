"""What was asked, spent and received: durable before and after every step that costs money.

`states` is the one transition table, `records` the values, `schema` the tables, `migrations` their history,
`commits` the group-committing writer, `entries` what runs enter, `moves` what becomes of every bought generation,
`writes` what becomes of the others, `costs` what the history tells of money later, `reads` every question, `rate` the
account's shared limit, `restoring` gives a lost ledger its rows back, `store` opens it all.
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
