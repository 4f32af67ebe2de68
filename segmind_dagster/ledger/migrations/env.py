"""Alembic's entry point: runs on the connection that `ledger.store` hands over."""

from alembic import context

from segmind_dagster.ledger.schema import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, version_table="ledger_version")
with context.begin_transaction():
    context.run_migrations()
