"""The rules of the asset checks, and their wording: rows in, a verdict with its sentence out. Pure.

`outcomes` holds the result and the rules of a model's outputs and of prompt sets, `completeness` what is missing of a
set, `spend` the rules of the money, and `spend_reach` how far Segmind's history has been compared. What the rows are
is asked in `ledger.check_reads` and `reports.spend_sql`; how Dagster shows a result is in `orchestration.checks`.
"""
