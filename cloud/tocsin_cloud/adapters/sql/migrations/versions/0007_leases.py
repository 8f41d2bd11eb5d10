"""Leases: who does a role's work; the position alone stays with the partition."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To the newer tables; the position is kept, and behind a snapshot everything computed was in the stream."""
    op.create_table(
        "lease",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )
    with op.batch_alter_table("worker") as batch_op:
        batch_op.drop_column("epoch")
        batch_op.alter_column("snapshot_position", new_column_name="computed_position")


def downgrade() -> None:
    """Back to the older tables, in which whoever starts takes the partition."""
    with op.batch_alter_table("worker") as batch_op:
        batch_op.alter_column("computed_position", new_column_name="snapshot_position")
        batch_op.add_column(sa.Column("epoch", sa.BigInteger(), nullable=False, server_default="0"))
    op.drop_table("lease")
