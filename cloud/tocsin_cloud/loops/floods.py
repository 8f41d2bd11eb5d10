"""The alarm flood of the present moment: begun and ended by what is committed, shown to people and in the figures."""

from collections.abc import Iterable

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.sql.models import Occurrence
from tocsin_cloud.loops.journal import Step
from tocsin_cloud.loops.live import LiveView
from tocsin_core.kpi import DAY, Annunciated, FloodWatch
from tocsin_core.lifecycle import Event
from tocsin_core.plant import Priority
from tocsin_core.rules import Rules

log = structlog.get_logger(__name__)


async def annunciated(session: AsyncSession, begin_ns: int) -> list[Annunciated]:
    """The occurrences told to an operator that were raised at `begin_ns` or later, or that had not returned by then."""
    rows = await session.execute(
        select(Occurrence.alarm, Occurrence.priority, Occurrence.raised_ns, Occurrence.returned_ns).where(
            Occurrence.annunciated,
            (Occurrence.raised_ns >= begin_ns) | Occurrence.returned_ns.is_(None) | (Occurrence.returned_ns > begin_ns),
        )
    )
    return [
        Annunciated(alarm, Priority(priority), raised_ns, returned_ns)
        for alarm, priority, raised_ns, returned_ns in rows
    ]


class Floods:
    """Watches the committed raisings; after a restart it knows those of the last day."""

    def __init__(self, rules: Rules, live: LiveView, metrics: Metrics) -> None:
        """Show in `live` and `metrics`."""
        self._rules = rules
        self._live = live
        self._metrics = metrics
        self._watch = FloodWatch()

    async def load(self, session: AsyncSession, now_ns: int) -> None:
        """Begin with what the tables hold."""
        begin_ns = now_ns - DAY
        self._watch.take(one for one in await annunciated(session, begin_ns) if one.raised_ns >= begin_ns)

    def take(self, steps: Iterable[Step]) -> None:
        """Take in what was committed."""
        transitions = (step.transition for step in steps)
        self._watch.take(
            Annunciated(definition.id, definition.priority, each.time_ns, None)
            for each, definition in ((each, self._rules.definitions[each.definition]) for each in transitions)
            if each.event is Event.RAISE and not each.suppressed
        )

    def show(self, now_ns: int) -> None:
        """Say whether a flood goes on at `now_ns`, in stream time."""
        before = self._live.flood
        flood, recent = self._watch.at(now_ns)
        self._live.flood = flood
        self._metrics.flood.set(flood is not None)
        self._metrics.recent_alarms.set(recent)
        if flood is not None and before is None:
            self._metrics.floods.inc()
            log.warning("alarm flood begins", alarms=flood.alarms, first=flood.first)
        elif flood is None and before is not None:
            log.info("alarm flood is over", alarms=before.alarms, first=before.first)
