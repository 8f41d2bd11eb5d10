"""Where the gateway's alarms go on after a start: from the last snapshot, the journal, and the readings kept since."""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

import numpy as np
import structlog

from tocsin_core.engine import SnapshotError, State, initial, restore, snapshot, step, words_first
from tocsin_core.engine.commands import ASPECT, note_acknowledgement
from tocsin_core.engine.state import NEVER
from tocsin_core.journal import Entry, decode
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.readings import I32, Frame
from tocsin_core.rules import Rules
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.alarm_state import AlarmState, Answered
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.settings import AlarmSettings, EdgeSettings, ModbusDevice

CHUNK: Final = 256
NS_PER_MS: Final = 1_000_000
ACTIVE: Final = (Phase.UNACKNOWLEDGED, Phase.ACKNOWLEDGED)
# What the journal tells of an alarm; all else that the engine remembers comes of readings.
_TOLD: Final = (
    "phase",
    "active",
    "onset_ns",
    "shelved_until_ns",
    "shelved_once",
    "suppressed",
    "unseen",
    "out_of_service",
    "commanded_ns",
)

_BY_POINT: Final = ("time_ns", "value", "quality", "seen_ns")

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Resumed:
    """What the alarms go on from: the engine's state after journal entry number `entry`, the orders that were answered.

    `known` are the last batch and entry that the snapshot knows. `recent` are the entries that the spool holds and the
    snapshot did not know.
    """

    state: State
    entry: int = 0
    obeyed: dict[str, Answered] = field(default_factory=dict)
    known: tuple[int, int] = (0, 0)
    recent: tuple[tuple[int, Entry], ...] = ()


def resume(alarms: AlarmSettings, saved: AlarmState | None, spool: Spool, now_ns: int) -> Resumed:
    """Bring the alarms to where they were when the gateway ended, whatever ended it.

    A batch and the entries that it led to were kept in one transaction. So the readings kept after the snapshot are
    replayed in silence, for what the detectors remember; how each alarm stands is what the journal last said of it.
    Without a snapshot the detectors begin anew, and the journal alone tells how the alarms stand.
    """
    rules = alarms.rules
    batches_after = entries_after = 0
    remembers, stands = initial(rules, now_ns), initial(rules, now_ns)
    if saved is not None:
        try:
            remembers, stands = restore(saved.engine, rules), restore(saved.engine, rules)
            batches_after, entries_after = saved.batch, saved.entry
            _leave_out(spool, saved)
        except SnapshotError as error:
            log.critical("the alarms begin anew", reason=str(error))
            saved = None
    entries = _decoded(spool, entries_after)
    obeyed = dict(saved.obeyed) if saved is not None else {}
    for number, entry in entries:
        _stand(stands, rules, entry, now_ns)
        if entry.command:
            obeyed[entry.command] = Answered(entry.time_ns, number, entry.refusal)
    replayed = 0
    if saved is not None:
        remembers, replayed = _replay(remembers, alarms, spool, batches_after, now_ns)
    log.info("alarms go on", snapshot=saved is not None, entries=len(entries), readings=replayed)
    known = batches_after, entries_after
    newest = entries[-1][0] if entries else entries_after
    return Resumed(_joined(remembers, stands, rules), newest, obeyed, known, tuple(entries))


def with_lacking(later: State, earlier: State, rules: Rules, judged: Rules) -> State:
    """`later`, but as in `earlier` what alarms and points the rules `judged`, by which it came about, do not have.

    Both states are laid onto `rules`. What detectors alone remember of such points begins anew.
    """
    points = set(judged.points)
    alarm = np.asarray([each.id not in judged.index for each in rules.definitions], np.bool_)
    point = np.asarray([each not in points for each in rules.points], np.bool_)
    lacking = dict.fromkeys((*_TOLD, "since_ns", "elsewhere"), alarm) | dict.fromkeys(_BY_POINT, point)
    for name, at in (lacking | {"acknowledged_ns": alarm[rules.realarm]}).items():
        getattr(later, name)[at] = getattr(earlier, name)[at]
    return restore(snapshot(later, rules), rules)


def last_stamp_ns(settings: EdgeSettings, spool: Spool) -> int:
    """The newest stamp of the readings kept last that the gateway's own clock has stamped; 0 where there is none."""
    own = {each.id for each in settings.devices if isinstance(each.input, ModbusDevice)}
    after = spool.counters()["batch_last"] - CHUNK
    batches = _read(partial(spool.since, after, CHUNK))
    return (
        max((int(each.columns.time_ms.max(initial=0)) for each in batches if each.device in own), default=0) * NS_PER_MS
    )


def _decoded(spool: Spool, after: int) -> list[tuple[int, Entry]]:
    found = []
    for kept in _read(partial(spool.journal.since, after)):
        try:
            found.append((kept.number, decode(kept.body)))
        except ValueError as error:
            log.critical("journal entry not understood", entry=kept.number, reason=str(error))
    return found


def _leave_out(spool: Spool, saved: AlarmState) -> None:
    """Let a spool that is new give out no number that the snapshot knows.

    It begins at the clock, by which the lost one may have been ahead: what is told from now on would pass for known.
    """
    try:
        spool.go_on_above(saved.batch, saved.entry)
    except sqlite3.Error as error:
        log.critical("numbers that were given out may be given out again", reason=str(error))


def _read(read: Callable[[], list[T]]) -> list[T]:
    try:
        return read()
    except sqlite3.Error as error:
        log.critical("the alarms go on without what the spool holds", reason=str(error))
        return []


def _stand(state: State, rules: Rules, entry: Entry, now_ns: int) -> None:
    """Let an alarm stand as after `entry`; of one that is no longer in the plant nothing is known."""
    number = rules.index.get(entry.alarm)
    if number is None:
        return
    state.phase[number] = entry.phase
    state.active[number] = entry.phase in ACTIVE
    state.onset_ns[number] = entry.onset_ns
    state.shelved_until_ns[number] = entry.until_ns
    state.shelved_once[number] = entry.once
    state.suppressed[number] = entry.suppressed
    # What was raised and hidden in one step says so from its raising on.
    began = entry.event is Event.RAISE or (state.unseen[number] and entry.event is not Event.SUPPRESS)
    state.unseen[number] = entry.suppressed and began
    state.out_of_service[number] = entry.out_of_service
    # The answer to an order bears the order's time, which another clock told.
    at_ns = min(entry.time_ns, now_ns)
    if entry.event is Event.ACKNOWLEDGE:
        note_acknowledgement(state, rules, number, at_ns)
    # An end of a shelf that nobody asked for is no command.
    if entry.event in ASPECT and (entry.who or entry.command):
        state.commanded_ns[number, ASPECT[entry.event]] = at_ns


def _replay(state: State, alarms: AlarmSettings, spool: Spool, after: int, now_ns: int) -> tuple[State, int]:
    """Take the readings kept after batch `after` into `state` at `now_ns`, and tell how many they were."""
    readings = 0
    while batches := _read(partial(spool.since, after, CHUNK)):
        frame = Frame.concat(
            heard(alarms.rules, each.columns, engine_numbers(alarms, each.device, each.metrics)) for each in batches
        )
        readings += len(frame)
        # What is ahead of the clock now, because a sensor's was or this one was set back, would make late ones of all
        # that is read until then.
        frame = frame.not_ahead(now_ns, 0)
        until_ns = min(now_ns, int(frame.time_ns.max(initial=0)))
        state, _ = step(state, alarms.rules, frame, [], max(state.now_ns, until_ns))
        after = batches[-1].number
    return state, readings


def engine_numbers(alarms: AlarmSettings, device: str, metrics: Iterable[str]) -> I32:
    """The engine's numbers of a device's metrics, -1 where no alarm looks at one."""
    return np.asarray([alarms.points.get((device, name), -1) for name in metrics], np.int32)


def heard(rules: Rules, columns: Columns, numbers: I32) -> Frame:
    """The readings that an alarm looks at, with their times as they go up; `numbers` are those of the metrics."""
    point = numbers[columns.metric]
    frame, seen = Frame(point, columns.time_ms * NS_PER_MS, columns.value, columns.quality), point >= 0
    return words_first(rules, frame if seen.all() else frame.take(seen))


def _joined(remembers: State, stands: State, rules: Rules) -> State:
    """What the detectors of `remembers` do, with the alarms as in `stands`."""
    differs = remembers.active != stands.active
    told = {name: getattr(stands, name) for name in (*_TOLD, "acknowledged_ns")}
    since_ns = np.where(differs, NEVER, remembers.since_ns)
    # A state that was put together knows its quiet bands and what is due no longer; a restored one finds them anew.
    return restore(snapshot(replace(remembers, since_ns=since_ns, **told), rules), rules)
