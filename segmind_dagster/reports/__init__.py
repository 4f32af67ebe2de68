"""Rows to answers: usage summaries and their report, contact sheets and galleries, and what the checks say.

`usage` asks the warehouse, `usage_report` and `charts` draw its summaries, `gallery` and `contact_sheet` look at
outputs, `findings` and `left_open` judge what the ledger holds. `rendering` fills in `templates`, `publishing` puts
what came of it in place.

Nothing here speaks to Segmind, knows Dagster or changes the ledger.
"""
