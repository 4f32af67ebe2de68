"""Running totals for every cap, and the prices of the models list."""

from alembic import op
import sqlalchemy as sa

revision = '0002'
down_revision = '0001'


def upgrade() -> None:
    op.create_table('spending',
    sa.Column('scope', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('committed_usd', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('scope', 'name')
    )
    op.execute("INSERT INTO spending SELECT 'day', day, committed_usd FROM days")
    for scope, name in (('set', 'prompt_set'), ('run', 'COALESCE(run_id, owner)')):
        op.execute(
            f"INSERT INTO spending SELECT '{scope}', {name}, SUM(COALESCE(cost_usd, reserved_usd)) "
            f"FROM attempts GROUP BY {name}"
        )
    op.drop_table('days')
    op.create_table('model_prices',
    sa.Column('model_slug', sa.Text(), nullable=False),
    sa.Column('cost_usd', sa.BigInteger(), nullable=True),
    sa.Column('latency_ms', sa.BigInteger(), nullable=True),
    sa.Column('observed_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('model_slug')
    )
