"""The rules of the asset checks, and their wording: rows in, a verdict with its sentence out. Pure.

`outcomes` holds the result and the rules of a model's outputs and of prompt sets, `completeness` what is missing of a
set, `spend` the rules of the money, `spend_reach` the words for how far Segmind's history was compared. The rows come
from `ledger.check_reads` and `reports.spend_sql`; how Dagster shows a result is in `orchestration.checks`.
"""
