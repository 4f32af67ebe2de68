"""The history of the ledger's tables, as Alembic revisions. Append only: a released revision never changes."""

HEAD = "0006"
