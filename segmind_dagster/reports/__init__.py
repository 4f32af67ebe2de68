"""Rows to answers: usage summaries from the warehouse, contact sheets from the outputs.

Nothing here speaks to Segmind, knows Dagster or changes the ledger.
"""
