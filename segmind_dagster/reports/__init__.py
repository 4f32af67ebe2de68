"""Rows to answers: usage summaries and their report, the reconciliation of spend, galleries.

`usage` and `spend` query the warehouse (`usage_sql` and `spend_sql` hold the queries, `queries` translates them for a
destination, `summaries` loads the results back); `variables` and `reconciliation` interpret the results, `spend_reach`
holds how far a comparison with Segmind's history reaches. `account` shows the account at a glance, `usage_report`,
`account_totals` and `charts` draw the summaries, `gallery`, `contact_sheet` and `thumbnails` show outputs. `rendering`
fills in `templates`, `publishing` writes the result. What the rows mean for a check is in `checks`.

Nothing here speaks to Segmind, knows Dagster or changes the ledger.
"""
