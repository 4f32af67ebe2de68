"""Rows to answers: usage summaries and their report, the reconciliation of spend, galleries.

`usage` and `spend` ask the warehouse (`usage_sql` and `spend_sql` hold the questions, `queries` puts them into a
destination's words, `summaries` loads the answers back); `variables` and `reconciliation` make sense of them.
`account` shows the account at a glance, `usage_report`, `account_totals` and `charts` draw the summaries, `gallery`,
`contact_sheet` and `thumbnails` show outputs. `rendering` fills in `templates`, `publishing` puts what came of it in
place. What the rows mean for a check is in `checks`.

Nothing here speaks to Segmind, knows Dagster or changes the ledger.
"""
