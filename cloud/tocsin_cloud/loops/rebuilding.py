"""The alarms as the tables have them, laid onto an engine that begins without its snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.bulk import put
from tocsin_cloud.adapters.stream import Position
from tocsin_core import engine
from tocsin_core.engine import State
from tocsin_core.engine.commands import note_acknowledgement
from tocsin_core.engine.state import HERE, NEVER
from tocsin_core.lifecycle import ACTIVE, Phase
from tocsin_core.rules import MAX_SHELVE_S, NS, Rules
from tocsin_core.special import Family

if TYPE_CHECKING:
    from tocsin_core.readings import I64

KEPT: Final = "stands as it was recorded: the engine's state was lost, and the readings decide from here on"
# Further back no gateway's backlog goes again unless the historian was away for as long.
LATELY_NS: Final = 24 * 3600 * NS
_PHASES: Final = {phase.text: phase for phase in Phase}


@dataclass(frozen=True, slots=True)
class Recorded:
    """The latest occurrence of each alarm that stands or has of late, and what hides alarms."""

    occurrences: Sequence[sql.Occurrence]
    hidden: Sequence[sql.AlarmState]


async def recorded(session: AsyncSession, since_ns: int) -> Recorded:
    """Read how the alarms stand, and which have returned since a day before `since_ns`.

    What stands is the latest of its alarm: a clock that was ahead may have dated later what returned before.
    """
    of = sql.Occurrence
    stands = of.phase != Phase.NORMAL.text
    known = stands | (of.returned_ns > since_ns - LATELY_NS)
    rows = await session.scalars(select(of).where(known).order_by(stands, of.raised_ns))
    latest = {row.alarm: row for row in rows}
    return Recorded(list(latest.values()), list(await session.scalars(select(sql.AlarmState))))


def as_recorded(state: State, rules: Rules, told: Recorded) -> tuple[State, list[sql.Occurrence]]:
    """The state in which alarms stand as `told`, and the standing occurrences that the engine knew nothing of.

    What was replayed of the stream is kept: readings, windows, delays of alarms that it found as they are told. An
    alarm that it found active and that is in no table stays so, and will be told; one that is over there as here is,
    and one that returned there by a reading later than any found here. A silence that began behind a reading behind the
    one that is told is another: it waited with a mass of them (`HeldBack`), and will be told.
    What is active stays so until a reading says otherwise that is later than what is recorded: gateways send what is
    older again.
    """
    # The state given is left as it is, should the transaction fail; a restored one finds its bands of rest anew.
    stands = engine.restore(engine.snapshot(state, rules), rules)
    over = (stands.phase != Phase.NORMAL) & (~stands.active | (stands.elsewhere != HERE))
    stands.phase[over], stands.active[over] = Phase.NORMAL, False
    # One that has an off-delay may not have returned by that reading.
    returns_at_once = (rules.family == Family.STALE) & (rules.delay_ns[:, 1] == 0)
    kept = []
    for row in told.occurrences:
        number = rules.index.get(row.alarm)
        if number is None:
            continue
        phase, point = _PHASES[row.phase], rules.point[number]
        heard_ns = int(state.time_ns[point])
        stands.time_ns[point] = max(stands.time_ns[point], min(state.now_ns, row.returned_ns or row.reading_ns))
        if phase is Phase.NORMAL:
            if stands.onset_ns[number] <= row.raised_ns and heard_ns < (row.returned_ns or 0):
                stands.phase[number], stands.active[number] = Phase.NORMAL, False
            stands.onset_ns[number] = max(stands.onset_ns[number], row.raised_ns)
            continue
        if stands.active[number] and returns_at_once[number] and row.raised_ns < heard_ns < stands.onset_ns[number]:
            continue
        if (phase, row.raised_ns) != (state.phase[number], state.onset_ns[number]):
            kept.append(row)
            # Whether somebody has seen it is not known: then it is to be answered.
            stands.unseen[number] = False
        stands.phase[number], stands.onset_ns[number] = phase, row.raised_ns
        stands.active[number] = phase in ACTIVE
        if phase is Phase.ACKNOWLEDGED and row.acknowledged_ns is not None:
            note_acknowledgement(stands, rules, number, row.acknowledged_ns)
    stands.since_ns[stands.active != state.active] = NEVER
    _hide(stands, rules, told.hidden)
    return stands, kept


def _hide(state: State, rules: Rules, hidden: Sequence[sql.AlarmState]) -> None:
    """Shelve and take out of service what is so in the tables, and nothing else.

    Of what is hidden so the tables do not say whether it is suppressed by design as well: that the readings tell. No
    shelf lasts longer than one may: its end is by a clock that may have been set back since.
    """
    state.shelved_until_ns[:], state.shelved_once[:], state.out_of_service[:] = 0, False, False
    for row in hidden:
        number = rules.index.get(row.alarm)
        if number is None:
            continue
        latest_ns = state.now_ns + MAX_SHELVE_S[int(rules.priority[number])] * NS
        state.shelved_until_ns[number] = min(row.shelved_until_ns or 0, latest_ns)
        state.shelved_once[number] = row.shelved_once
        state.out_of_service[number] = row.out_of_service
        if not (row.shelved_until_ns or row.out_of_service):
            state.suppressed[number] = row.suppressed


async def note_kept(session: AsyncSession, kept: Sequence[sql.Occurrence], at: Position, now_ns: int) -> None:
    """Put into the journal of each of `kept` that it stands as it was recorded; it is a step of no alarm."""
    rows = [
        {
            "occurrence": row.id, "alarm": row.alarm, "event": "", "phase_from": row.phase, "phase_to": row.phase,
            "time_ns": now_ns, "now_ns": at.time_ns, "value": None, "who": None, "reason": KEPT,
            "position": at.sequence, "committed_ns": now_ns, "latency_ns": None,
        }
        for row in kept
    ]  # fmt: skip
    await put(session, sql.Transition, rows)


class Unconfirmed:
    """Which alarms stand as they were recorded, and no reading of their points has come since."""

    def __init__(self) -> None:
        """None do."""
        self._number: I64 = np.empty(0, np.int64)
        self._before_ns: I64 = self._number

    def begin(self, state: State, rules: Rules, kept: Sequence[sql.Occurrence]) -> None:
        """Note those of `kept` that are active."""
        number = np.asarray([rules.index[row.alarm] for row in kept], np.int64)
        self._number = number[state.active[number]]
        self._before_ns = state.time_ns[rules.point[self._number]]

    def count(self, state: State, rules: Rules) -> int:
        """How many still do."""
        if not len(self._number):
            return 0
        waits = state.time_ns[rules.point[self._number]] == self._before_ns
        waits &= state.active[self._number]
        self._number, self._before_ns = self._number[waits], self._before_ns[waits]
        return len(self._number)
