"""What stands on each hazard source, counted in SQL: alarms that an operator sees, and tickets."""

from typing import NamedTuple

from sqlalchemy import func, select

from tocsin_cloud.adapters.sql.models import Occurrence, Ticket
from tocsin_cloud.api.context import Api
from tocsin_cloud.api.sorting import EARLY_KINDS, STANDING_TEXT, UNANSWERED_TEXT
from tocsin_core.lifecycle import Phase


class Pending(NamedTuple):
    """How many alarms of a kind, a priority and a phase stand on a source, without those that are hidden."""

    source: str | None
    kind: str
    priority: str
    phase: str
    alarms: int

    @property
    def standing(self) -> bool:
        """Whether their condition is true."""
        return self.phase in STANDING_TEXT

    @property
    def unanswered(self) -> bool:
        """Whether nobody has acknowledged them."""
        return self.phase in UNANSWERED_TEXT

    @property
    def early(self) -> bool:
        """Whether they warn before a limit is reached."""
        return self.kind in EARLY_KINDS


async def pending_alarms(api: Api) -> list[Pending]:
    """Return what an operator sees now."""
    now = api.ports.clock.now_ns()
    groups = (Occurrence.source, Occurrence.kind, Occurrence.priority, Occurrence.phase)
    shelved = Occurrence.shelved_until_ns.is_not(None) & (Occurrence.shelved_until_ns > now)
    # A shelf whose time is up hides nothing, also where nobody is at work to say so.
    by_design = Occurrence.suppressed & Occurrence.shelved_until_ns.is_(None)
    query = (
        select(*groups, func.count())
        .where(Occurrence.phase != Phase.NORMAL.text, ~Occurrence.out_of_service, ~shelved, ~by_design)
        .group_by(*groups)
    )
    async with api.ports.database.read() as session:
        return [Pending(*row) for row in (await session.execute(query))]


async def ticket_counts(api: Api) -> dict[tuple[str | None, str], int]:
    """Return the number of tickets by source and state."""
    groups = (Ticket.source, Ticket.state)
    async with api.ports.database.read() as session:
        rows = await session.execute(select(*groups, func.count()).group_by(*groups))
        return {(source, state): count for source, state, count in rows}
