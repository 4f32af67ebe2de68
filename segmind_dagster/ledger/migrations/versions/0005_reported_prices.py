"""What was reported lately as the price of each model, and an index of the attempts without a reported cost."""

from alembic import op
import sqlalchemy as sa

revision = '0005'
down_revision = '0004'


def upgrade() -> None:
    op.create_table('reported_prices',
    sa.Column('model_slug', sa.Text(), nullable=False),
    sa.Column('highest_usd', sa.BigInteger(), nullable=False),
    sa.Column('reported_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('model_slug')
    )
    is_unreported = sa.text("cost_usd IS NULL OR cost_source = 'estimated'")
    op.create_index(
        'attempts_unreported', 'attempts',
        ['model_slug', 'prompt_set', 'state', 'run_id', 'owner', 'reserved_usd', 'cost_usd', 'cost_source',
         'intent_at'],
        unique=False, sqlite_where=is_unreported, postgresql_where=is_unreported,
    )
