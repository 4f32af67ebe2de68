"""Indexes from which the sensors' questions are answered without a look at the rows."""

from alembic import op
import sqlalchemy as sa

revision = '0003'
down_revision = '0002'


def upgrade() -> None:
    op.drop_index('generations_by_state', 'generations')
    op.create_index('generations_by_state', 'generations', ['state', 'cost_usd'], unique=False)
    is_open = sa.text("state <> 'succeeded'")
    op.create_index(
        'generations_open', 'generations',
        ['state', 'failure_kind', 'generation_id', 'resource', 'owner', 'updated_at', 'submitted_at',
         'intent_at'],
        unique=False, sqlite_where=is_open, postgresql_where=is_open,
    )
    op.drop_index('set_generations_by_generation', 'set_generations')
    op.create_index(
        'set_generations_by_generation', 'set_generations', ['generation_id', 'is_current', 'prompt_set'], unique=False
    )
    has_failed = sa.text('failure_kind IS NOT NULL')
    op.create_index(
        'attempts_failed', 'attempts', ['generation_id', 'owner', 'failure_kind'],
        unique=False, sqlite_where=has_failed, postgresql_where=has_failed,
    )
    op.create_index('runs_by_run', 'runs', ['run_id'], unique=False)
    op.create_index('runs_by_lease', 'runs', ['lease_until'], unique=False)
