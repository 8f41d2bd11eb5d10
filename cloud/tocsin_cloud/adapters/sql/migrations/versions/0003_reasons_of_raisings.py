"""What lay behind a raising stands with its occurrence."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

RAISED = """
UPDATE occurrence SET reason =
    (SELECT max(reason) FROM transition WHERE transition.occurrence = occurrence.id AND transition.event = 'raise')
"""


def upgrade() -> None:
    """To the newer table; the journal knows the reasons of what is there."""
    with op.batch_alter_table("occurrence") as batch_op:
        batch_op.add_column(sa.Column("reason", sa.Text(), nullable=True))
    op.execute(RAISED)


def downgrade() -> None:
    """Back to the older table."""
    with op.batch_alter_table("occurrence") as batch_op:
        batch_op.drop_column("reason")
