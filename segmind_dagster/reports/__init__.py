"""Rows to answers: usage summaries and their report, the reconciliation of spend, galleries, and what the checks say.

`usage` and `spend` ask the warehouse (`usage_sql` and `spend_sql` hold the questions, `queries` puts them into a
destination's words, `summaries` loads the answers back); `variables` and `reconciliation` make sense of them. `account`
shows the account at a glance, `usage_report` and `charts` draw the summaries, `gallery` and `contact_sheet` look at
outputs; `findings`, `completeness` and `spend_findings` judge. `rendering` fills in `templates`, `publishing` puts what
came of it in place.

Nothing here speaks to Segmind, knows Dagster or changes the ledger.
"""
