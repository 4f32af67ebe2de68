"""When a prompt set first asked for a generation, so that what reuse saves has a day."""

from alembic import op
import sqlalchemy as sa

revision = '0004'
down_revision = '0003'


def upgrade() -> None:
    op.add_column('set_generations', sa.Column('asked_at', sa.BigInteger(), nullable=True))
    # it was not recorded: what paid for it knows when it was sent, and a set that reuses it asked no earlier
    op.execute(
        'UPDATE set_generations SET asked_at = (SELECT COALESCE(generations.intent_at, generations.updated_at) '
        'FROM generations WHERE generations.generation_id = set_generations.generation_id)'
    )
