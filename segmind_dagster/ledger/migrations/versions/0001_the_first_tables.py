"""The first tables."""

from alembic import op
import sqlalchemy as sa

revision = '0001'
down_revision = None


def upgrade() -> None:
    op.create_table('attempts',
    sa.Column('generation_id', sa.Text(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('model_slug', sa.Text(), nullable=False),
    sa.Column('resource', sa.Text(), nullable=False),
    sa.Column('prompt_set', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('owner', sa.Text(), nullable=False),
    sa.Column('run_id', sa.Text(), nullable=True),
    sa.Column('request_id', sa.Text(), nullable=True),
    sa.Column('http_status', sa.Integer(), nullable=True),
    sa.Column('failure_kind', sa.Text(), nullable=True),
    sa.Column('error', sa.Text(), nullable=True),
    sa.Column('reserved_usd', sa.BigInteger(), nullable=False),
    sa.Column('cost_usd', sa.BigInteger(), nullable=True),
    sa.Column('cost_source', sa.Text(), nullable=True),
    sa.Column('rate_wait_ms', sa.BigInteger(), nullable=False),
    sa.Column('queue_ms', sa.BigInteger(), nullable=True),
    sa.Column('inference_ms', sa.BigInteger(), nullable=True),
    sa.Column('latency_ms', sa.BigInteger(), nullable=True),
    sa.Column('intent_at', sa.BigInteger(), nullable=False),
    sa.Column('submitted_at', sa.BigInteger(), nullable=True),
    sa.Column('completed_at', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('generation_id', 'attempt')
    )
    op.create_index('attempts_by_day', 'attempts', ['intent_at'], unique=False)
    op.create_index('attempts_by_model', 'attempts', ['model_slug', 'state', 'completed_at'], unique=False)
    op.create_index('attempts_by_request', 'attempts', ['request_id'], unique=True)
    op.create_index('attempts_by_run', 'attempts', ['run_id'], unique=False)
    op.create_index('attempts_by_set', 'attempts', ['prompt_set'], unique=False)
    op.create_table('days',
    sa.Column('day', sa.Text(), nullable=False),
    sa.Column('committed_usd', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('day')
    )
    op.create_table('generations',
    sa.Column('generation_id', sa.Text(), nullable=False),
    sa.Column('model_slug', sa.Text(), nullable=False),
    sa.Column('resource', sa.Text(), nullable=False),
    sa.Column('prompt_set', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('owner', sa.Text(), nullable=True),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('failure_kind', sa.Text(), nullable=True),
    sa.Column('error', sa.Text(), nullable=True),
    sa.Column('prompt', sa.Text(), nullable=False),
    sa.Column('negative_prompt', sa.Text(), nullable=True),
    sa.Column('body', sa.Text(), nullable=False),
    sa.Column('images', sa.Text(), nullable=False),
    sa.Column('variables', sa.Text(), nullable=False),
    sa.Column('seed', sa.BigInteger(), nullable=True),
    sa.Column('sample', sa.Integer(), nullable=False),
    sa.Column('request_id', sa.Text(), nullable=True),
    sa.Column('intent_at', sa.BigInteger(), nullable=True),
    sa.Column('submitted_at', sa.BigInteger(), nullable=True),
    sa.Column('completed_at', sa.BigInteger(), nullable=True),
    sa.Column('cost_usd', sa.BigInteger(), nullable=True),
    sa.Column('cost_source', sa.Text(), nullable=True),
    sa.Column('queue_ms', sa.BigInteger(), nullable=True),
    sa.Column('inference_ms', sa.BigInteger(), nullable=True),
    sa.Column('latency_ms', sa.BigInteger(), nullable=True),
    sa.Column('output_uri', sa.Text(), nullable=True),
    sa.Column('output_sha256', sa.Text(), nullable=True),
    sa.Column('provider_sha256', sa.Text(), nullable=True),
    sa.Column('output_bytes', sa.BigInteger(), nullable=True),
    sa.Column('output_format', sa.Text(), nullable=True),
    sa.Column('width', sa.Integer(), nullable=True),
    sa.Column('height', sa.Integer(), nullable=True),
    sa.Column('run_id', sa.Text(), nullable=True),
    sa.Column('updated_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('generation_id')
    )
    op.create_index('generations_by_state', 'generations', ['state', 'failure_kind'], unique=False)
    op.create_table('meta',
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('value', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('key')
    )
    op.create_table('rate_limit',
    sa.Column('scope', sa.Text(), nullable=False),
    sa.Column('per_minute', sa.Float(), nullable=False),
    sa.Column('next_slot_at', sa.BigInteger(), nullable=False),
    sa.Column('cut_at', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('scope')
    )
    op.create_table('runs',
    sa.Column('owner', sa.Text(), nullable=False),
    sa.Column('run_id', sa.Text(), nullable=True),
    sa.Column('place', sa.Text(), nullable=False),
    sa.Column('pid', sa.Integer(), nullable=False),
    sa.Column('started_at', sa.BigInteger(), nullable=False),
    sa.Column('lease_until', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('owner')
    )
    op.create_table('set_generations',
    sa.Column('prompt_set', sa.Text(), nullable=False),
    sa.Column('generation_id', sa.Text(), nullable=False),
    sa.Column('resource', sa.Text(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('is_current', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('prompt_set', 'generation_id')
    )
    op.create_index('set_generations_by_generation', 'set_generations', ['generation_id'], unique=False)
    op.create_table('uploads',
    sa.Column('sha256', sa.Text(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('uploaded_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('sha256')
    )
