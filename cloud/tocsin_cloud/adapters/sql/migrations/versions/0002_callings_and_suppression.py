"""Callings that begin again, one-shot shelves, and what was hidden when it was raised."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OLD = ("occurrence", "step", "repeat", "to_person", "channel")
NEW = ("occurrence", "round_ns", "step", "repeat", "to_person", "channel")
HIDDEN = "shelved_until_ns IS NOT NULL OR out_of_service"


def _flag(name: str, *, default: bool) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.true() if default else sa.false())


def _unique(columns: tuple[str, ...]) -> str:
    return op.f(f"uq_message_{'_'.join(columns)}")


def upgrade() -> None:
    """To the newer tables; what is there belongs to the callings of raisings."""
    with op.batch_alter_table("message") as batch_op:
        batch_op.add_column(sa.Column("round_ns", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.add_column(_flag("answered", default=False))
        batch_op.drop_constraint(_unique(OLD), type_="unique")
        batch_op.create_unique_constraint(_unique(NEW), list(NEW))
    for table in ("occurrence", "alarm_state"):
        with op.batch_alter_table(table) as batch_op:
            batch_op.add_column(_flag("shelved_once", default=False))
            batch_op.add_column(_flag("suppressed", default=False))
        op.execute(sa.text(f"UPDATE {table} SET suppressed = ({HIDDEN})"))  # noqa: S608 -- two names of ours
    with op.batch_alter_table("occurrence") as batch_op:
        batch_op.add_column(_flag("annunciated", default=True))
        batch_op.create_index(batch_op.f("ix_occurrence_returned_ns"), ["returned_ns"], unique=False)


def downgrade() -> None:
    """Back to the older tables, which hold one calling about each occurrence."""
    with op.batch_alter_table("occurrence") as batch_op:
        batch_op.drop_index(batch_op.f("ix_occurrence_returned_ns"))
        batch_op.drop_column("annunciated")
    for table in ("occurrence", "alarm_state"):
        with op.batch_alter_table(table) as batch_op:
            batch_op.drop_column("suppressed")
            batch_op.drop_column("shelved_once")
    op.execute("DELETE FROM message WHERE round_ns <> 0")
    with op.batch_alter_table("message") as batch_op:
        batch_op.drop_constraint(_unique(NEW), type_="unique")
        batch_op.create_unique_constraint(_unique(OLD), list(OLD))
        batch_op.drop_column("answered")
        batch_op.drop_column("round_ns")
