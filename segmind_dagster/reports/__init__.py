"""Rows to answers: usage summaries, contact sheets, and what the checks say.

`usage` asks the warehouse, `contact_sheet` looks at outputs, `findings` and `left_open` judge what the ledger holds.

Nothing here speaks to Segmind, knows Dagster or changes the ledger.
"""
