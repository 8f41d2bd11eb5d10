"""Alarm journals of gateways that decide, and the orders they are given."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To the newer tables."""
    op.create_table(
        "gateway_journal",
        sa.Column("gateway", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("lost", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("gateway", name=op.f("pk_gateway_journal")),
    )
    op.create_table(
        "gateway_order",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("gateway", sa.String(length=64), nullable=False),
        sa.Column("alarm", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateway_order")),
    )
    with op.batch_alter_table("gateway_order") as batch_op:
        batch_op.create_index(batch_op.f("ix_gateway_order_state_at_ns"), ["state", "at_ns"], unique=False)


def downgrade() -> None:
    """Back to the older tables."""
    with op.batch_alter_table("gateway_order") as batch_op:
        batch_op.drop_index(batch_op.f("ix_gateway_order_state_at_ns"))
    op.drop_table("gateway_order")
    op.drop_table("gateway_journal")
