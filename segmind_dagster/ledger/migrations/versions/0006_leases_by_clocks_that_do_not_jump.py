"""When leases run out on clocks that do not jump, which process holds them, and whether they were given up."""

from alembic import op
import sqlalchemy as sa

revision = '0006'
down_revision = '0005'


def upgrade() -> None:
    op.add_column('runs', sa.Column('process_started', sa.BigInteger(), nullable=True))
    op.add_column('runs', sa.Column('until_s', sa.Float(), nullable=True))
    op.add_column('runs', sa.Column('until_database_s', sa.Float(), nullable=True))
    op.add_column('runs', sa.Column('ended_at', sa.BigInteger(), nullable=True))
    op.add_column('rate_limit', sa.Column('written_at', sa.BigInteger(), nullable=True))
    op.add_column('rate_limit', sa.Column('boot', sa.Text(), nullable=True))
    op.add_column('rate_limit', sa.Column('written_s', sa.Float(), nullable=True))
